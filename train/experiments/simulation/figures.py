"""Draw the charts of the simulation's page as SVG; their colours are variables of the page."""

from collections.abc import Sequence
from typing import Any

import markupsafe
import vl_convert

from pipelines.charts import CONFIG, DROPPED, KEPT, SOFT, TOTAL
from train.experiments.simulation.matching import COLUMNS, NAMES
from train.experiments.simulation.measures import BINS, PURE
from train.experiments.simulation.published import FIGURE, SHARES
from train.experiments.simulation.stopping import LONGER
from train.experiments.simulation.summary import MAIN
from train.experiments.simulation.trial import (
    DENOISED,
    FILTERED,
    FRESH_FILTERED,
    FRESH_RAW,
    NOISY,
    RAW,
    SHOWN,
)

Spec = dict[str, Any]

COLOURS = {RAW: DROPPED, FILTERED: KEPT}
DASHES = [5, 4]
ARMS = (RAW, DENOISED, NOISY, FILTERED, FRESH_RAW, FRESH_FILTERED)
"""In the order of the controls' charts."""


def _line(colour: str, *, dashed: bool = False) -> Spec:
    dashes = DASHES if dashed else []
    return {
        "type": "line",
        "color": colour,
        "strokeWidth": 1.8,
        "point": False,
        "strokeDash": dashes,
    }


STROKES = {
    RAW: _line(DROPPED),
    FILTERED: _line(KEPT),
    FRESH_RAW: _line(DROPPED, dashed=True),
    FRESH_FILTERED: _line(KEPT, dashed=True),
}
CLASSES = ("#2a7d78", "#d58a5c", "#7a6fb0", "#b04a5a", "#8a8f3c")


def curves(told: Spec) -> dict[str, markupsafe.Markup]:
    """Draw each measure over C_s, ours with one standard deviation, beside the paper's figure."""
    return {measure: _curve(told, measure) for measure in FIGURE}


def _curve(told: Spec, measure: str) -> markupsafe.Markup:
    layers = []
    for arm, colour in COLOURS.items():
        rows = _rows(told["arms"], variant=MAIN, arm=arm, measure=COLUMNS[measure])
        ours = [
            {
                "x": row["spurious"],
                "y": row["mean"],
                "low": row["mean"] - row["sd"],
                "high": row["mean"] + row["sd"],
            }
            for row in rows
        ]
        pairs = zip(SHARES, FIGURE[measure][arm], strict=True)
        theirs = [{"x": share, "y": value} for share, value in pairs]
        band = {"type": "area", "color": colour, "opacity": 0.18}
        layers += [
            _layer(ours, band, "low", y2={"field": "high"}),
            _layer(ours, _line(colour)),
            _layer(theirs, _line(colour, dashed=True)),
        ]
    return _svg(layers, f"{NAMES[measure]} over C_s, raw and filtered, ours and the paper's")


def steps(told: Spec) -> dict[str, markupsafe.Markup]:
    """Draw each measure over the steps of training, per C_s, raw beside rewritten texts."""
    rows = _rows(told["curves"], variant=LONGER)
    shares = sorted({row["spurious"] for row in rows})
    stops = [row["step"] for row in _rows(told["stops"], variant=LONGER)]
    where = [{"x": sum(stops) / len(stops)}]
    rule = {"type": "rule", "color": SOFT, "strokeDash": [2, 3]}
    stop: Spec = {"data": {"values": where}, "mark": rule, "encoding": {"x": _x()}}
    drawn = {}
    for measure, column in COLUMNS.items():
        values = [row[column] for row in rows]
        scale = {"domain": [min(values), max(values)], "nice": True, "zero": False}
        for share in shares:
            lines = [_steps(rows, arm, share, column, scale) for arm in STROKES]
            title = f"{NAMES[measure]} over steps at C_s = {share:g}"
            drawn[f"{measure} {share:g}"] = _svg([stop, *lines], title, width=330, height=170)
    return drawn


def _steps(rows: Sequence[Spec], arm: str, share: float, column: str, scale: Spec) -> Spec:
    own = _rows(rows, arm=arm, spurious=share)
    values = [{"x": row["step"], "y": row[column]} for row in own]
    return _layer(values, STROKES[arm], scale=scale)


def controls(told: Spec) -> dict[str, markupsafe.Markup]:
    """Draw the arms of the largest C_s, by measure, with 95 % intervals."""
    share = max(row["spurious"] for row in told["parts"])
    return {measure: _controls(told, measure, share) for measure in FIGURE}


def _controls(told: Spec, measure: str, share: float) -> markupsafe.Markup:
    rows = _rows(told["arms"], variant=MAIN, spurious=share, measure=COLUMNS[measure])
    values = [
        row | {"colour": STROKES[row["arm"]]["color"] if row["arm"] in STROKES else TOTAL}
        for row in rows
    ]
    y: Spec = {"field": "arm", "type": "nominal", "sort": list(ARMS), "title": None}
    y["axis"] = {
        "domain": False,
        "ticks": False,
        "labelLimit": 200,
        "labelPadding": 6,
        "minExtent": 118,
    }
    x = {"type": "quantitative", "title": None, "scale": {"zero": False}, "axis": {"tickCount": 5}}
    shared = {"y": y, "color": {"field": "colour", "scale": None}}
    layers = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": shared | {"x": x | {"field": "low"}, "x2": {"field": "high"}},
        },
        {"mark": {"type": "point", "size": 60}, "encoding": shared | {"x": x | {"field": "mean"}}},
    ]
    layers = [layer | {"data": {"values": values}} for layer in layers]
    return _svg(layers, f"{NAMES[measure]} of each control at C_s = {share:g}", height=150)


def neurons(told: Spec) -> markupsafe.Markup:
    """Draw which shares of the texts' neurons lie along features, raw beside rewritten texts."""
    layers = []
    for arm, colour in COLOURS.items():
        counts = told["histograms"][arm]
        values = [
            {"x": (at + 0.5) / BINS, "y": count / sum(counts)}
            for at, count in enumerate(counts)
            if count
        ]
        layers.append(_layer(values, _line(colour), scale={"type": "log"}))
    rule = {"type": "rule", "color": SOFT, "strokeDash": [2, 3]}
    where = {"data": {"values": [{"x": PURE}]}, "mark": rule, "encoding": {"x": _x()}}
    title = f"Shares of neurons along features at C_s = {SHOWN:g}"
    return _svg([where, *layers], title, width=330, height=300)


def maps(told: Spec) -> dict[str, markupsafe.Markup]:
    """Draw the t-SNE of test images, coloured by class, by arm."""
    return {arm: _map(points, told["labels"], arm) for arm, points in told["maps"].items()}


def _map(points: Sequence[Sequence[float]], labels: Sequence[int], arm: str) -> markupsafe.Markup:
    values = [
        {"x": x, "y": y, "class": label} for (x, y), label in zip(points, labels, strict=True)
    ]
    place = {"type": "quantitative", "axis": None, "scale": {"zero": False}}
    colour = {"field": "class", "type": "nominal", "legend": None}
    encoding = {
        "x": place | {"field": "x"},
        "y": place | {"field": "y"},
        "color": colour | {"scale": {"range": list(CLASSES)}},
    }
    mark = {"type": "point", "size": 14, "opacity": 0.85}
    layer = {"data": {"values": values}, "mark": mark, "encoding": encoding}
    return _svg([layer], f"Test images by t-SNE, {arm}", width=330, height=300)


def _rows(rows: Sequence[Spec], **wanted: Any) -> list[Spec]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _x() -> Spec:
    axis = {"tickCount": 5, "grid": False, "title": None}
    return {"field": "x", "type": "quantitative", "axis": axis, "scale": {"nice": False}}


def _layer(
    values: Sequence[Spec], mark: Spec, y: str = "y", scale: Spec | None = None, **more: Any
) -> Spec:
    axis = {"tickCount": 5, "title": None}
    height = {"field": y, "type": "quantitative", "axis": axis, "scale": scale or {"zero": False}}
    return {
        "data": {"values": list(values)},
        "mark": mark,
        "encoding": {"x": _x(), "y": height, **more},
    }


def _svg(layers: list[Spec], label: str, width: int = 460, height: int = 240) -> markupsafe.Markup:
    """Draw a chart of numbers and of names that are ours."""
    config = CONFIG | {"autosize": {"type": "fit", "contains": "padding"}, "padding": 6}
    chart = {"width": width, "height": height, "layer": layers, "config": config}
    svg = vl_convert.vegalite_to_svg(chart)
    named = f'role="img" aria-label="{markupsafe.escape(label)}" viewBox='
    return markupsafe.Markup(svg.replace("viewBox=", named, 1))
