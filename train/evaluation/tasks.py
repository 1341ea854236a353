"""What may be asked of a model, and asking it: `zero-shot:DIR`, `retrieval:JSON@IMAGES` ..."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from filters.rule import RecipeError
from train.evaluation.cxc import cxc
from train.evaluation.encoder import Encoder
from train.evaluation.knn import knn
from train.evaluation.labelled import LABEL, open_labelled
from train.evaluation.measures import measures
from train.evaluation.page import write_page
from train.evaluation.planted import planted
from train.evaluation.probe import linear_probe, vtab
from train.evaluation.results import Result, write_result
from train.evaluation.retrieval import open_captioned, retrieval
from train.evaluation.splits import open_splits
from train.evaluation.templates import open_templates
from train.evaluation.zero_shot import zero_shot

KINDS = {
    "zero-shot": "zero-shot:DIR[,templates=clip,label=label,language=en]",
    "retrieval": "retrieval:dataset_coco.json@IMAGES[,language=en], or retrieval:SHARDS",
    "cxc": "cxc:DIR@IMAGES",
    "probe": "probe:DIR",
    "fine-tune": "fine-tune:DIR[,steps=20000,batch=256,head_rate=0.01,rate=0.001]",
    "knn": "knn:DIR",
    "vtab": "vtab:manifest.parquet",
    "measures": "measures:DIR",
    "planted": "planted:SAMPLE",
}
"""The kinds of tasks, and how each is written."""

_OPTIONS: dict[str, dict[str, Callable[[str], str | int | float]]] = {
    "zero-shot": {"templates": str, "label": str, "language": str},
    "retrieval": {"language": str},
    "fine-tune": {"steps": int, "batch": int, "head_rate": float, "rate": float},
}
_WITH_IMAGES = ("retrieval", "cxc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to ask."""

    kind: str
    """One of `KINDS`."""
    path: Path
    images: Path | None = None
    options: dict[str, str | int | float] = field(default_factory=dict)


def parse_task(text: str) -> Task:
    """Read what a user wrote, such as `zero-shot:imagenet/val,templates=seven`.

    Raises:
        RecipeError: It is no task, or an option is not one of its kind's.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS or not rest:
        raise RecipeError(
            f"--on must be like {'; '.join(KINDS.values())}, got {text!r}; correct it"
        )
    parts = rest.split(",")
    where, _, images = parts[0].partition("@") if kind in _WITH_IMAGES else (parts[0], "", "")
    task = Task(
        kind=kind,
        path=Path(where),
        images=Path(images) if images else None,
        options=dict(_option(kind, part) for part in parts[1:]),
    )
    for path in (task.path, task.images):
        if path is not None and not path.exists():
            raise RecipeError(
                f"{kind}:{where} must lie on this machine, got no {path}; correct the path"
            )
    if kind == "cxc" and task.images is None:
        raise RecipeError(f"{text} must come with COCO's images, got none; write cxc:DIR@IMAGES")
    return task


def _option(kind: str, text: str) -> tuple[str, str | int | float]:
    name, _, value = text.partition("=")
    known = _OPTIONS.get(kind, {})
    if name not in known:
        raise RecipeError(
            f"options of {kind} must be among {', '.join(known) or 'none'}, got {text!r}; "
            f"write {KINDS[kind]}"
        )
    try:
        read: str | int | float = known[name](value)
    except ValueError:
        raise RecipeError(f"{name} of {kind} must be a number, got {value!r}; correct it") from None
    return name, read


def evaluate(encoder: Encoder, tasks: Sequence[str], out: Path) -> list[Result]:
    """Ask all tasks, write a JSON file for each result, and a page of all.

    All tasks are read before the first is asked.

    Args:
        encoder: What is evaluated.
        tasks: As a user writes them; see `KINDS`.
        out: Where to write: `DATASET_TASK.json`, with clip_benchmark's fields, and `index.html`.

    Raises:
        RecipeError: A task is wrong, or its data cannot be read.
    """
    results: list[Result] = []
    for task in [parse_task(text) for text in tasks]:
        language = str(task.options.get("language", "en"))
        found = [replace(one, language=language) for one in _ASK[task.kind](encoder, task)]
        for result in found:
            write_result(result, encoder, out)
        results += found
        write_page(results, encoder, out)
    return results


def _zero_shot(encoder: Encoder, task: Task) -> list[Result]:
    name = str(task.options.get("templates", ""))
    data = open_labelled(task.path, label=str(task.options.get("label", LABEL)))
    return [zero_shot(encoder, data, open_templates(name) if name else ())]


def _retrieval(encoder: Encoder, task: Task) -> list[Result]:
    return [retrieval(encoder, open_captioned(task.path, task.images))]


def _cxc(encoder: Encoder, task: Task) -> list[Result]:
    return cxc(encoder, task.path, task.images or task.path)


def _fine_tune(encoder: Encoder, task: Task) -> list[Result]:
    from train.evaluation.fine_tune import Tuning, fine_tune

    tuning = Tuning(**task.options)  # type: ignore[arg-type]  # `_OPTIONS` has seen to the types
    return [fine_tune(encoder, open_splits(task.path), tuning)]


_ASK: dict[str, Callable[[Encoder, Task], list[Result]]] = {
    "zero-shot": _zero_shot,
    "retrieval": _retrieval,
    "cxc": _cxc,
    "probe": lambda encoder, task: [linear_probe(encoder, open_splits(task.path))],
    "fine-tune": _fine_tune,
    "knn": lambda encoder, task: [knn(encoder, open_splits(task.path))],
    "vtab": lambda encoder, task: vtab(encoder, task.path),
    "measures": lambda encoder, task: [measures(encoder, open_labelled(task.path))],
    "planted": lambda encoder, task: planted(encoder, task.path),
}
