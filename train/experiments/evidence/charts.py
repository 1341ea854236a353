"""Draw an experiment: means with intervals, differences, curves, and maps of embeddings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import vl_convert

from pipelines.charts import CONFIG, KEPT, LINE, NOTE_PX, SOFT
from pipelines.scene import COLOURS, SHAPES
from train.experiments.evidence.figures import Figure

Spec = dict[str, Any]

ROW_PX = 22
GROUP_COLOURS = {"seen": SOFT, "held-out": KEPT}
_MARKS = (
    "circle",
    "square",
    "triangle-up",
    "M0-1L.24-.32.95-.31.38.12.59.81 0 .4-.59.81-.38.12-.95-.31-.24-.32Z",
    "M0 .9L-.9-.1C-.9-.9-.1-.9 0-.3.1-.9.9-.9.9-.1Z",
    "cross",
    "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0M-.5 0A.5 .5 0 1 0 .5 0A.5 .5 0 1 0-.5 0",
    "M.3-1A1 1 0 1 0 .3 1A.8 .8 0 1 1 .3-1Z",
)
"""Of the shapes, in their order: Vega's own names, or paths from -1 to 1."""


def arm_accuracy(rows: Sequence[Spec]) -> markupsafe.Markup:
    """Draw a line for each arm: accuracy on seen and held-out classes, with intervals.

    Args:
        rows: Each an `arm` and, by group, a `Figure` of `acc1`.
    """
    data = [
        {"arm": row["arm"], "group": group, **_ends(one, 100)}
        for row in rows
        for group, one in row["groups"].items()
        if one.seeds
    ]
    x = _number("mean", "top-1 accuracy, %", scale={"domain": [0, 100]})
    return _svg(_intervals(data, "arm", x), "Accuracy of each arm", len(rows))


def forest(rows: Sequence[Spec]) -> markupsafe.Markup:
    """Draw differences of arms with their intervals, around a line at 0.

    Args:
        rows: Each `arms`, a `group` and a `Figure`.
    """
    data = [
        {"arm": " less ".join(row["arms"]), "group": row["group"], **_ends(row["figure"], 100)}
        for row in rows
        if row["figure"].seeds
    ]
    x = _number("mean", "difference of accuracy, points")
    zero = {"mark": {"type": "rule", "color": SOFT}, "encoding": {"x": {"datum": 0}}}
    layers = [zero, *_intervals(data, "arm", x)]
    return _svg(layers, "Differences of arms", len({row["arm"] for row in data}))


def _intervals(data: Sequence[Spec], row: str, x: Spec) -> list[Spec]:
    """Return dots, and rules where a figure has an interval, a line for each row."""
    y: Spec = {"field": row, "type": "nominal", "sort": None, "title": None}
    room = NOTE_PX * max((len(str(point[row])) for point in data), default=0)
    y["axis"] = {"minExtent": room, "grid": True, "ticks": False, "domain": False}
    colour: Spec = {
        "field": "group",
        "type": "nominal",
        "scale": {"domain": [*GROUP_COLOURS], "range": [*GROUP_COLOURS.values()]},
        "legend": None,
    }
    shift = {"field": "group", "type": "nominal", "sort": [*GROUP_COLOURS]}
    shared = {"y": y, "yOffset": shift, "color": colour}
    known = [point for point in data if point["low"] is not None]
    ends = {"x": x | {"field": "low"}, "x2": {"field": "high"}}
    layers = [
        {
            "data": {"values": known},
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": shared | ends,
        }
    ]
    points = {"type": "point", "size": 44, "color": None}
    return [*layers, {"data": {"values": [*data]}, "mark": points, "encoding": shared | {"x": x}}]


def curves(told: Sequence[Spec], what: str) -> dict[str, markupsafe.Markup]:
    """Draw each arm's loss, or its accuracy, by step; all arms have the same scale.

    Args:
        told: Of each arm, `loss` and `accuracy`.
        what: One of both.
    """
    groups = ("loss",) if what == "loss" else ("seen", "held-out")
    points = [point for one in told for point in one[what]]
    top = max((point[g] for point in points for g in groups if g in point), default=1.0)
    drawn = {}
    for one in told:
        layers = []
        for group in groups:
            some = [{"step": p["step"], "value": p[group]} for p in one[what] if group in p]
            mark = {"type": "line", "color": GROUP_COLOURS.get(group, KEPT), "strokeWidth": 1.5}
            mark["point"] = what != "loss" and {"size": 20, "color": GROUP_COLOURS[group]}
            scale = {"domain": [0, top if what == "loss" else 1]}
            y = {"field": "value", "type": "quantitative", "scale": scale}
            y["axis"] = {"title": None, "tickCount": 4, "format": "~g" if what == "loss" else ".0%"}
            axis = {"title": None, "tickCount": 4, "labelOverlap": True, "labelSeparation": 8}
            x = {"field": "step", "type": "quantitative", "axis": axis}
            layers.append({"data": {"values": some}, "mark": mark, "encoding": {"x": x, "y": y}})
        drawn[one["arm"]] = _svg(layers, f"{what} of {one['arm']}", size=(210, 110))
    return drawn


def scatter(points: Sequence[Spec], name: str) -> markupsafe.Markup:
    """Draw a map of embeddings: each picture by its own colour and shape, or by its class.

    Args:
        points: Each `x`, `y`, and `colour` and `shape`, or `label`.
        name: Of the arm.
    """
    axis = {"axis": None, "scale": {"zero": False, "nice": False}, "type": "quantitative"}
    encoding: Spec = {"x": {"field": "x", **axis}, "y": {"field": "y", **axis}}
    if points and "label" in points[0]:
        legend = {"orient": "bottom", "columns": 5, "title": None}
        encoding["color"] = {"field": "label", "type": "nominal", "legend": legend}
    else:
        tints = [f"rgb{rgb}" for rgb in COLOURS.values()]
        looks = (("color", "colour", COLOURS, tints), ("shape", "shape", SHAPES, [*_MARKS]))
        for channel, field, names, values in looks:
            scale = {"domain": [*names], "range": values}
            encoding[channel] = {"field": field, "type": "nominal", "legend": None, "scale": scale}
    mark = {"type": "point", "size": 26, "filled": True, "opacity": 0.85, "color": None}
    layer = {"data": {"values": [*points]}, "mark": mark, "encoding": encoding}
    return _svg([layer], f"Embeddings of {name}", size=(460, 400))


def _ends(one: Figure, scale: float) -> Mapping[str, float | None]:
    ends = {"mean": one.mean, "low": one.low, "high": one.high}
    return {name: scale * end if math.isfinite(end) else None for name, end in ends.items()}


def _number(field: str, title: str, **more: Any) -> Spec:
    axis = {"title": title, "tickCount": 6, "grid": True, "gridColor": LINE}
    return {"field": field, "type": "quantitative", "axis": axis, **more}


def _svg(
    layers: list[Spec], label: str, rows: int = 0, size: tuple[int, int] = (440, 0)
) -> markupsafe.Markup:
    """Draw a chart; its colours are the page's own."""
    config = CONFIG | {"autosize": {"type": "pad"}, "padding": 4}
    spec = {"width": size[0], "height": size[1] or max(1, rows) * ROW_PX, "layer": layers}
    svg = vl_convert.vegalite_to_svg(spec | {"config": config})
    told = f'role="img" aria-label="{markupsafe.escape(label)}" viewBox='
    return markupsafe.Markup(svg.replace("viewBox=", told, 1))
