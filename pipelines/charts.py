"""Parts of the charts that the pages draw as Vega-Lite specifications: plain dicts, data inlined.

Colours are CSS variables of the page, so that dark mode and print need no second drawing. Every
chart is as wide as its container. Labels are drawn as given: the caller makes them harmless.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Spec = dict[str, Any]

INK, SOFT, LINE = "var(--ink)", "var(--soft)", "var(--line)"
TOTAL, KEPT, FLOW, DROPPED = "var(--total)", "var(--kept)", "var(--flow)", "var(--dropped)"

LIMIT_ROW_PX = 14
NOTE_PX = 6.6
LABEL_LIMIT = "max(120, 0.36 * containerSize()[0])"
IS_RIGHT = "scale('x', datum.from) > width / 2"

CONFIG: Spec = {
    "background": "transparent",
    "autosize": {"type": "fit-x", "contains": "padding"},
    "padding": 0,
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "text": {"color": INK, "fontSize": 11},
    "rule": {"color": INK},
    "bar": {"color": KEPT},
    "rect": {"color": KEPT},
    "line": {"color": KEPT, "strokeWidth": 2, "point": {"size": 16, "color": KEPT}},
    "point": {"filled": True, "opacity": 1, "color": INK},
}
"""Vega-Lite's own settings, the same for all charts."""


def in_sight(value: float, edges: Sequence[float]) -> bool:
    """Whether a limit lies within a histogram, where a line can show it."""
    return len(edges) > 1 and edges[0] <= value <= edges[-1]


def limit_lines(limits: Iterable[tuple[str, float]], x: Spec) -> list[Spec]:
    """Dashed lines, labelled above the chart, each on a row of its own, towards the middle."""
    side = {"expr": f"{IS_RIGHT} ? 'right' : 'left'"}
    shift = {"expr": f"{IS_RIGHT} ? -4 : 4"}
    lines: list[Spec] = []
    for row, (label, value) in enumerate(limits):
        data = {"values": [{"from": value, "label": label}]}
        at = {"x": x | {"field": "from"}}
        top = -4 - LIMIT_ROW_PX * row
        rule = {"type": "rule", "strokeDash": [4, 3], "y": top - 8, "y2": "height"}
        text = {"type": "text", "y": top - 4, "fontWeight": 600, "align": side, "dx": shift}
        lines.append(layer(rule, at, data=data))
        lines.append(layer(text, at | {"text": {"field": "label"}}, data=data))
    return lines


def chart(data: list[Spec], height_px: int, layers: list[Spec]) -> Spec:
    """Return layers over the same data, as wide as what they are drawn in."""
    return {"data": {"values": data}, "width": "container", "height": height_px, "layer": layers}


def layer(mark: Spec, encoding: Spec, **more: Any) -> Spec:
    """Return one layer of a chart."""
    return {"mark": mark, "encoding": encoding, **more}


def number(field: str, **options: Any) -> Spec:
    """A quantitative channel; its title is the field's name in a tooltip, none on an axis."""
    title = {} if "format" in options else {"title": None}
    return {"field": field, "type": "quantitative"} | title | options


def axis(number_format: str, num_ticks: int, **options: bool) -> Spec:
    """Return an axis of numbers, whose zero has no unit."""
    label = "datum.value ? datum.label : '0'"
    return {"format": number_format, "tickCount": num_ticks, "labelExpr": label, **options}


def keyed(i: int, label: str) -> str:
    """A label made unique by its place, which `_row_labels` cuts off again."""
    return f"{i:03d}{label}"


def row_labels(field: str) -> Spec:
    """A channel that gives each row of the data a line of its own, labelled at the left."""
    axis: Spec = {"labelExpr": "slice(datum.label, 3)", "labelLimit": {"expr": LABEL_LIMIT}}
    axis |= {"labelPadding": 6, "ticks": False, "domain": False}
    scale = {"type": "band", "paddingInner": 0.2, "paddingOuter": 0.1}
    shown = {"sort": None, "title": None, "axis": axis, "scale": scale}
    return {"field": field, "type": "ordinal"} | shown


def beside_text(numbers: Sequence[float], notes: Sequence[str] = (), start_px: int = 0) -> Spec:
    """A scale from 0 that leaves room at the right for the notes, or for the numbers themselves."""
    top = max(1, *numbers)
    longest = max(map(len, notes), default=len(f"{top:,}"))
    end = {"expr": f"max({start_px + 20}, width - {12 + NOTE_PX * longest:.0f})"}
    return {"domain": [0, top], "range": [start_px, end], "nice": False}
