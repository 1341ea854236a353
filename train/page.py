"""Show a run on one page: how it learnt, what it can do, and what it was made of."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import vl_convert

from filters.rule import RecipeError
from pipelines.charts import CONFIG, KEPT, SOFT
from pipelines.page import pages
from recaption.files import read_json, write_text
from train.evaluation.results import PAGE
from train.folder import EVALUATION, REPORT, RUN
from train.metrics import read_metrics

POINTS = 200
"""Of a curve at most; each is the mean of as many steps that were told."""
_SIZE_PX = {"width": 380, "height": 170}

Spec = dict[str, Any]

CURVES = {
    "loss": ("Loss", "of training, in nats; dots: of held-out pairs among each other"),
    "recall": ("Retrieval", "held-out pairs, recall@1: images (line) and captions (dashed)"),
    "temperature": ("Temperature", "of the softmax, learnt"),
    "gradient_norm": ("Gradient", "its length, before it is cut"),
    "learning_rate": ("Learning rate", ""),
    "samples_per_s": ("Speed", "pairs per second"),
}
"""The curves: a title and what they show."""


def write_report(out: Path, name: str = "") -> Path:
    """Write `report/index.html` of a run, and return its path.

    Args:
        out: The run's folder.
        name: What it is called; empty: its path.

    Raises:
        RecipeError: There is no run.
    """
    if not (out / RUN).exists():
        raise RecipeError(f"{out} must hold a run, got no {RUN}; run python -m train run first")
    lines = read_metrics(out)
    steps = [line for line in lines if "loss" in line]
    held_out = [
        {"step": line["step"], **line["validation"]} for line in lines if "validation" in line
    ]
    story = read_json(out / RUN)
    page = _template().render(
        output=name or str(out),
        story=story,
        told=json.dumps(story, indent=1),
        last=steps[-1] if steps else None,
        held_out=held_out,
        curves=_curves(steps, held_out),
        about=CURVES,
        results=_results(out),
        evaluation=f"../{EVALUATION}/{PAGE}",
    )
    path = out / REPORT / "index.html"
    write_text(path, page)
    return path


def _results(out: Path) -> list[dict[str, Any]]:
    """Return what `evaluate` found, by data set and task."""
    return [read_json(path) for path in sorted((out / EVALUATION).glob("*.json"))]


def _curves(steps: Sequence[Spec], held_out: Sequence[Spec]) -> dict[str, markupsafe.Markup]:
    """Draw the curves that there are points for."""
    if not steps:
        return {}
    names = [name for name in CURVES if name in steps[0]]
    means = _means(steps, names)
    drawn = {name: [_line(means, name)] for name in names}
    if held_out:
        drawn["loss"].append(_layer(held_out, "loss", {"type": "point", "color": SOFT, "size": 30}))
        ways = {"image": [], "text": [4, 3]}
        drawn["recall"] = [
            _layer(held_out, f"{way}_retrieval_recall@1", _stroke(dashes))
            for way, dashes in ways.items()
        ]
    return {name: _svg(drawn[name], name) for name in CURVES if name in drawn}


def _means(steps: Sequence[Spec], names: Sequence[str]) -> list[Spec]:
    each = -(-len(steps) // POINTS)
    return [
        {name: sum(line[name] for line in some) / len(some) for name in ("step", *names)}
        for some in (steps[at : at + each] for at in range(0, len(steps), each))
    ]


def _line(points: Sequence[Spec], name: str) -> Spec:
    return _layer(points, name, _stroke([]))


def _stroke(dashes: Sequence[int]) -> Spec:
    return {"type": "line", "color": KEPT, "strokeWidth": 1.5, "point": False, "strokeDash": dashes}


def _layer(points: Sequence[Spec], name: str, mark: Spec) -> Spec:
    values = [{"step": point["step"], "value": point[name]} for point in points]
    y = {"field": "value", "type": "quantitative", "axis": {"title": None, "tickCount": 5}}
    y["scale"] = {"zero": name not in ("loss",)}
    x = {
        "field": "step",
        "type": "quantitative",
        "axis": {"tickCount": 5},
        "scale": {"nice": False},
    }
    return {"data": {"values": values}, "mark": mark, "encoding": {"x": x, "y": y}}


def _svg(layers: list[Spec], name: str) -> markupsafe.Markup:
    """Draw a chart; its colours are the page's own."""
    config = CONFIG | {"autosize": {"type": "fit", "contains": "padding"}, "padding": 8}
    svg = vl_convert.vegalite_to_svg(_SIZE_PX | {"layer": layers, "config": config})
    label = f'role="img" aria-label="{CURVES[name][0]}" viewBox='
    return markupsafe.Markup(svg.replace("viewBox=", label, 1))  # of numbers alone


@cache
def _template() -> jinja2.Template:
    return pages(Path(__file__).parent).get_template("run.html.j2")
