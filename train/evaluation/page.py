"""Show on one page what a model is worth, beside what papers tell of others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import jinja2

from pipelines.page import NONE, pages
from recaption.files import write_text
from train.evaluation.encoder import Encoder
from train.evaluation.images import FAULTS
from train.evaluation.published import ROWS, Row
from train.evaluation.results import PAGE, Result

_FOLDS = "_1k"
_BETWEEN = " | "
"""In a heading, between what several columns share and what is one's own."""
_WAYS = {"text": "Image to text", "image": "Text to image"}
_WITHIN = {"text_text": "Text to text", "image_image": "Image to image"}
_ACCURACIES = {"acc1": "Top-1", "acc5": "Top-5", "mean_per_class_recall": "Mean per class"}
_OTHER_FAULTS = {
    "no_image": "sample without an image",
    "no_label": "sample without a label",
    "no_caption": "sample without a caption",
    "unknown_pairs": "rated pair with something that is not there",
    "damage": "damaged place in a tar",
}


def _recall_columns(ways: dict[str, str]) -> dict[str, str]:
    return {
        f"{way}_retrieval_recall@{k}": f"{title}{_BETWEEN}R@{k}"
        for way, title in ways.items()
        for k in (1, 5, 10)
    }


@dataclass(frozen=True, slots=True)
class _Kind:
    """How results of one task are shown."""

    title: str
    lede: str
    columns: dict[str, str]
    """Headings by metric; other metrics follow under their names."""
    percent: bool = True


_KINDS = {
    "zeroshot_classification": _Kind(
        "Zero-shot classification",
        "The class whose sentences are nearest, without an example of any.",
        _ACCURACIES,
    ),
    "zeroshot_retrieval": _Kind(
        "Retrieval",
        "How often something right is among the 1, 5 or 10 nearest. Ties are worth what chance "
        "makes of them.",
        _recall_columns(_WAYS),
    ),
    "cxc_similarity": _Kind(
        "CxC similarity",
        "Crisscrossed Captions: Spearman's correlation with what people think, times 100, of two "
        "captions (STS), of two images (SIS), of one of each (SITS); mean and deviation of 1000 "
        "samples.",
        {
            "sts_spearman": "STS",
            "sis_spearman": "SIS",
            "sits_spearman": "SITS",
            "mean_spearman": "Mean",
        },
    ),
    "cxc_retrieval": _Kind(
        "CxC retrieval",
        "Crisscrossed Captions: what people called alike is right, beside what COCO pairs.",
        _recall_columns(_WAYS | _WITHIN),
    ),
    "linear_probe": _Kind(
        "Linear probe",
        "A linear classifier on frozen features of all training images.",
        _ACCURACIES,
    ),
    "fine_tuning": _Kind("Fine-tuning", "The image tower, trained further.", _ACCURACIES),
    "knn": _Kind(
        "Nearest neighbours",
        "How often one of the 1, 5 or 10 nearest training images is of the right class.",
        {f"knn_recall@{k}": f"R@{k}" for k in (1, 5, 10)},
    ),
    "vtab": _Kind(
        "Tasks of 1000 examples",
        "A linear classifier on frozen features of 1000 training images. VTAB trains the whole "
        "tower.",
        _ACCURACIES,
    ),
    "vtab_mean": _Kind("Means of tasks", "", {"mean_acc1": "All tasks"}),
    "planted": _Kind(
        "Planted truth",
        "Pictures of a sample, told apart from all pairs of a colour and a shape: the right pair, "
        "the right colour, the right shape; and how much nearer an image is to its class, and to "
        "the class that a noisy corpus names in its place, than to the others.",
        {
            "acc1": f"Top-1{_BETWEEN}pair",
            "colour_acc1": f"Top-1{_BETWEEN}colour",
            "shape_acc1": f"Top-1{_BETWEEN}shape",
            "true_margin": f"Margin{_BETWEEN}true",
            "spurious_margin": f"Margin{_BETWEEN}spurious",
        },
    ),
    "representation": _Kind(
        "The space",
        "Alignment: squared distance of an image to its class's sentence. Uniformity: lower is "
        "more even, 0 is one point. Gap: between the images' mean and the texts'. Silhouette: 1 "
        "where classes are apart, 0 where they are mixed.",
        {
            "alignment": "Alignment",
            "image_uniformity": f"Uniformity{_BETWEEN}images",
            "text_uniformity": f"Uniformity{_BETWEEN}texts",
            "modality_gap": "Gap",
            "image_effective_rank": "Effective rank",
            "silhouette": "Silhouette",
            "image_neuron_purity": f"Neuron overlap{_BETWEEN}images",
            "text_neuron_purity": f"Neuron overlap{_BETWEEN}texts",
        },
        percent=False,
    ),
}


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    beside: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    model: str
    data: str
    about: str
    cells: list[_Cell]
    ours: bool


@dataclass(frozen=True, slots=True)
class _Section:
    id: str
    title: str
    lede: str
    groups: list[tuple[str, int]]
    """What columns share, and how many do."""
    columns: list[str]
    lines: list[_Line]
    remarks: list[str]


def write_page(results: Sequence[Result], encoder: Encoder, out: Path) -> Path:
    """Write the page of some results, and return its path."""
    sections = [
        _section(task, kind, [one for one in results if one.task == task], encoder.model)
        for task, kind in _KINDS.items()
        if any(one.task == task for one in results)
    ]
    text = _template().render(
        model=encoder.model, pretrained=encoder.pretrained, sections=sections, heads=_heads(results)
    )
    path = out / PAGE
    write_text(path, text)
    return path


def _heads(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Return the first figure of each of the first four results: what, of what, how much."""
    heads = []
    for one in results[:4]:
        kind = _KINDS[one.task]
        metric, heading = next(iter(kind.columns.items()))
        what = f"{kind.title}, {heading.replace(_BETWEEN, ', ')}"
        unit = "%" if kind.percent else ""
        heads.append((what, one.dataset, _number(one.metrics[metric], kind) + unit))
    return heads


def _section(task: str, kind: _Kind, results: Sequence[Result], model: str) -> _Section:
    published = ROWS.get(task, ())
    told = [*(one.metrics for one in results), *(row.metrics for row in published)]
    known = {name for metrics in told for name in metrics}
    metrics = [name for name in kind.columns if name in known]
    metrics += [
        name
        for name in dict.fromkeys(name for one in results for name in one.metrics)
        if name not in metrics and not name.endswith(("_sd", _FOLDS))
    ]
    ours = [line for one in results for line in _lines(one, metrics, kind, model)]
    theirs = [_published(row, metrics, kind) for row in published]
    headings = [kind.columns.get(name, _heading(name)) for name in metrics]
    shared = [heading.rpartition(_BETWEEN)[0] for heading in headings]
    return _Section(
        id=task,
        title=kind.title,
        lede=kind.lede,
        groups=[(name, len([*same])) for name, same in groupby(shared)] if any(shared) else [],
        columns=[heading.rpartition(_BETWEEN)[2] for heading in headings],
        lines=ours + theirs,
        remarks=[remark for one in results for remark in _remarks(one)],
    )


def _heading(metric: str) -> str:
    """Name a metric that its kind does not name, such as that of a group of tasks."""
    return metric.removesuffix("_acc1").replace("_", " ").capitalize()


def _lines(result: Result, metrics: Sequence[str], kind: _Kind, model: str) -> list[_Line]:
    """Return the line of a result, and that of its folds where it has some."""
    cells = [_cell(result, metric, kind) for metric in metrics]
    lines = [_Line(model, result.dataset, _about(result), cells, ours=True)]
    if any(name.endswith(_FOLDS) for name in result.metrics):
        folds = [_cell(result, f"{metric}{_FOLDS}", kind) for metric in metrics]
        lines.append(_Line(model, result.dataset, "mean of folds of 1000 images", folds, ours=True))
    return lines


def _published(row: Row, metrics: Sequence[str], kind: _Kind) -> _Line:
    cells = [_Cell(_number(row.metrics.get(name, math.nan), kind)) for name in metrics]
    return _Line(row.model, row.dataset, "", cells, ours=False)


def _cell(result: Result, metric: str, kind: _Kind) -> _Cell:
    value = result.metrics.get(metric, math.nan)
    deviation = result.metrics.get(f"{metric}_sd")
    if deviation is not None:
        return _Cell(_number(value, kind), f"± {_number(deviation, kind)}")
    ends = result.intervals.get(metric)
    beside = f"{_number(ends[0], kind)} to {_number(ends[1], kind)}" if ends else ""
    return _Cell(_number(value, kind), beside)


def _number(value: float, kind: _Kind) -> str:
    if not math.isfinite(value):
        return NONE
    return f"{100 * value:.1f}" if kind.percent else f"{value:.3f}"


def _about(result: Result) -> str:
    """Say what a result is of, and what guessing would give."""
    counts = result.counts
    about = [f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items()]
    if counts.get("classes") and "acc1" in result.metrics:
        about.append(f"chance {100 / counts['classes']:.1f}")
    return ", ".join(about)


def _remarks(result: Result) -> list[str]:
    """Say what took no part."""
    why = FAULTS | _OTHER_FAULTS
    return [
        f"{result.dataset}: {number:,} {name.replace('_', ' ')} ({why.get(name, name)})"
        for name, number in result.faults.items()
        if number
    ]


@cache
def _template() -> jinja2.Template:
    return pages(Path(__file__).parent).get_template("page.html.j2")
