"""Draw the charts of what a filter run did: the funnel, the overlaps, and the distributions."""

from collections.abc import Sequence

from pipelines.charts import (
    DROPPED,
    KEPT,
    LINE,
    Spec,
    axis,
    beside_text,
    chart,
    in_sight,
    keyed,
    layer,
    limit_lines,
    number,
    row_labels,
)

MATRIX_PX = 17


def strip(kept: int, dropped: dict[str, int]) -> Spec:
    """One bar for all rows: the kept ones, then the dropped ones by reason."""
    data: list[Spec] = []
    for label, rows in [("kept", kept), *dropped.items()]:
        start = data[-1]["to"] if data else 0
        colour = DROPPED if data else KEPT
        data.append({"label": label, "rows": rows, "colour": colour})
        data[-1] |= {"from": start, "to": start + rows}
    scale = {"domain": [0, data[-1]["to"]], "nice": False}
    encoding = {
        "x": number("from", axis=None, scale=scale),
        "x2": {"field": "to"},
        "color": {"field": "colour", "scale": None},
        "tooltip": [{"field": "label"}, number("rows", format=",")],
    }
    mark = {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 1}
    return chart(data, 24, [layer(mark, encoding)])


def funnel(steps: Sequence[Spec]) -> Spec:
    """Rows left after each step: `name`, `left`, `dropped`, a `note`, and the bar's `colour`.

    The note stands to the right of the bar, in room that is kept free for it.
    """
    data = [
        step | {"row": keyed(i, step["name"]), "before": step["left"] + step["dropped"]}
        for i, step in enumerate(steps)
    ]
    scale = beside_text([row["before"] for row in data], [row["note"] for row in data])
    x = number("left", axis=None, scale=scale)
    tips = [{"field": "name"}, number("left", format=","), number("dropped", format=",")]
    shared = {"y": row_labels("row"), "tooltip": tips, "x": x}
    colour = {"color": {"field": "colour", "scale": None}}
    note = {"x": x | {"field": "before"}, "text": {"field": "note"}}
    bar = {"type": "bar", "height": {"band": 1}}
    layers = [
        layer(bar, shared | colour),
        layer(bar | {"color": DROPPED}, shared | {"x2": {"field": "before"}}),
        layer({"type": "text", "align": "left", "dx": 7}, shared | note),
    ]
    return chart(data, len(data) * 24, layers)


def overlaps(combinations: Sequence[Spec], names: Sequence[str]) -> Spec:
    """An UpSet plot lying on its side: one line per combination of broken rules, and its rows.

    Args:
        combinations: Each with `rules` (names) and `rows`, the largest first.
        names: The columns of the matrix, in the recipe's order.
    """
    place = {name: MATRIX_PX * (i + 0.5) for i, name in enumerate(names)}
    data: list[Spec] = []
    for i, row in enumerate(combinations):
        dots = sorted(place[rule] for rule in row["rules"])
        together = " + ".join(row["rules"])
        data.append({"line": i, "rows": row["rows"], "rules": together, "dots": dots})
    scale = beside_text([row["rows"] for row in data], start_px=MATRIX_PX * len(names) + 8)
    line = row_labels("line") | {"axis": None}
    tips = [{"field": "rules"}, number("rows", format=",")]
    shared = {"x": number("rows", axis=None, scale=scale), "y": line, "tooltip": tips}
    count = {"text": number("rows", format=",")}
    bars = [
        layer({"type": "bar", "color": DROPPED}, shared),
        layer({"type": "text", "align": "left", "dx": 6}, shared | count),
    ]
    drawn = chart(data, len(data) * MATRIX_PX, [*_matrix(place, line), {"layer": bars}])
    return drawn | {"resolve": {"scale": {"x": "independent"}}}


def _matrix(place: dict[str, float], line: Spec) -> list[Spec]:
    """The rules' names, the dots below them and the lines between dots, at pixels of their own."""
    names = {"values": [{"name": name, "place": at} for name, at in place.items()]}
    heading = {"type": "text", "angle": -50, "align": "left", "baseline": "middle", "y": -8}
    ends = {"first": "datum.dots[0]", "last": "peek(datum.dots)", "all": str([*place.values()])}
    more = [{"calculate": formula, "as": field} for field, formula in ends.items()]

    def at(field: str) -> Spec:
        return {"y": line, "x": number(field, axis=None, scale=None)}

    heads = {"x": at("place")["x"], "text": {"field": "name"}}
    grid = {"type": "point", "size": 60, "color": LINE}
    joints = {"type": "rule", "strokeWidth": 2}
    return [
        layer(heading, heads, data=names),
        layer(grid, at("all"), transform=[*more, {"flatten": ["all"]}]),
        layer(joints, at("first") | {"x2": {"field": "last"}}, transform=more),
        layer({"type": "point", "size": 60}, at("dots"), transform=[{"flatten": ["dots"]}]),
    ]


def histogram(bins: Spec, limits: Sequence[tuple[str, float]]) -> Spec:
    """Kept rows with dropped rows stacked on them, and a line at each (label, limit) in sight."""
    edges = bins["edges"]
    columns = zip(edges, edges[1:], bins["kept"], bins["dropped"], strict=False)
    data = [
        {"from": low, "to": high, "kept": kept, "dropped": dropped, "all": kept + dropped}
        for low, high, kept, dropped in columns
    ]
    kind = "linear" if bins.get("scale") != "log" else "log" if edges[0] > 0 else "symlog"
    scale = {"type": kind, "domain": [edges[0], edges[-1]], "nice": False}
    x = number("from", scale=scale, axis=axis("~s", 5, grid=False))
    y = axis("~s", 3, domain=False, ticks=False)
    tips = [number(name, format=",") for name in ("from", "to", "kept", "dropped")]
    shared = {"x": x, "x2": {"field": "to"}, "tooltip": tips}
    kept = {"y": number("kept", axis=y), "y2": {"datum": 0}}
    dropped = {"y": number("all", axis=y), "y2": {"field": "kept"}}
    bar = {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 0.5}
    layers = [layer(bar, shared | kept), layer(bar | {"color": DROPPED}, shared | dropped)]
    lines = limit_lines([limit for limit in limits if in_sight(limit[1], edges)], x)
    return chart(data, 104, layers + lines)


def split_bars(rows: Sequence[tuple[str, int, int]]) -> Spec:
    """One bar per category: (label, kept, dropped), stacked."""
    data: list[Spec] = [
        {"label": keyed(i, label), "kept": kept, "dropped": dropped, "all": kept + dropped}
        for i, (label, kept, dropped) in enumerate(rows)
    ]
    x = number("kept", axis=None, scale=beside_text([row["all"] for row in data]))
    tips = [number(name, format=",") for name in ("kept", "dropped")]
    shared = {"x": x, "y": row_labels("label"), "tooltip": tips}
    count = {"x": x | {"field": "all"}, "text": number("all", format=",")}
    layers = [
        layer({"type": "bar"}, shared),
        layer({"type": "bar", "color": DROPPED}, shared | {"x2": {"field": "all"}}),
        layer({"type": "text", "align": "left", "dx": 5}, shared | count),
    ]
    return chart(data, len(data) * 18, layers)
