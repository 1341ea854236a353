"""Draw the charts of a corpus as a whole: what is shared, what is frequent, and the shards."""

from collections.abc import Iterable, Sequence

from pipelines.charts import (
    DROPPED,
    KEPT,
    LINE,
    Spec,
    axis,
    beside_text,
    chart,
    keyed,
    layer,
    limit_lines,
    number,
    row_labels,
)


def ranking(items: Sequence[tuple[str, int, str]], limits: Sequence[tuple[str, float]]) -> Spec:
    """Counts on a log scale, the largest first: (label, count, colour), and lines at the limits."""
    data: list[Spec] = [
        {"label": keyed(i, label), "from": count, "colour": colour}
        for i, (label, count, colour) in enumerate(items)
    ]
    marks = [*(row["from"] for row in data), *(limit for _, limit in limits)]
    low, high = max(1, min(marks) / 2), max(2, *marks)
    scale = beside_text(marks) | {"type": "log", "domain": [low, high]}
    x = number("from", axis=None, scale=scale)
    shared = {"x": x, "y": row_labels("label")}
    count = {"type": "text", "align": "left", "dx": 8}
    halo = {"stroke": "var(--paper)", "strokeWidth": 4}
    layers = [
        layer({"type": "rule", "color": LINE, "strokeWidth": 2}, shared | {"x2": {"datum": low}}),
        *limit_lines(limits, x),
        layer(
            {"type": "point", "size": 46}, shared | {"color": {"field": "colour", "scale": None}}
        ),
        layer(count | halo, shared | {"text": number("from", format=",")}),
        layer(count, shared | {"text": number("from", format=",")}),
    ]
    return chart(data, len(data) * 15, layers)


def rank_curve(points: Iterable[Sequence[int]], limits: Sequence[tuple[str, float]]) -> Spec:
    """How often the n-gram of each rank occurs, both on log scales, and where the list ends."""
    data = [{"from": rank, "count": count} for rank, count in points if rank > 0 and count > 0]
    x_axis, y_axis = axis("~s", 6, grid=False), axis("~s", 4, domain=False)
    x = number("from", title="rank", axis=x_axis, scale={"type": "log", "nice": False})
    y = number("count", title="occurrences", axis=y_axis, scale={"type": "log"})
    tips = [number("from", title="rank", format=","), number("count", format=",")]
    curve = layer({"type": "line"}, {"x": x, "y": y, "tooltip": tips})
    return chart(data, 230, [curve, *limit_lines(limits, x)])


def shard_shares(shards: Sequence[Spec], median: float, reach: float) -> Spec:
    """The kept share of each shard (`place`, `shard`, `share`, `outlier`) around the median.

    The band spans the shares that are not outliers: `reach` to either side of the median.
    """
    fields = ("place", "shard", "share", "outlier")
    data = [{field: row[field] for field in fields} for row in shards]
    band = {"values": [{"low": median - reach, "high": median + reach, "median": median}]}
    y = number("share", title="kept share", scale={"zero": False}, axis=axis(".0%", 4))
    x = number(
        "place",
        title="shard, in input order",
        axis=axis(",d", max(1, min(8, len(data) - 1)), grid=False),
    )
    x["scale"] = {"zero": False, "nice": False}
    tips = [{"field": "shard"}, number("share", format=".2%")]
    colour = {"condition": {"test": "datum.outlier", "value": DROPPED}, "value": KEPT}
    within = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    layers = [
        layer({"type": "rect", "color": LINE}, within, data=band),
        layer({"type": "rule"}, {"y": y | {"field": "median"}}, data=band),
        layer({"type": "point", "size": 18}, {"x": x, "y": y, "tooltip": tips, "color": colour}),
    ]
    return chart(data, 150, layers)


def sharing(points: Sequence[Spec], limits: Sequence[tuple[str, float]]) -> Spec:
    """How many names have how many of the others, both on log scales.

    A bin of several counts (`from` to `to`, `number` of names) is drawn at their mean and at its
    mean height, so that a power law is a straight line.
    """
    data = [
        point
        | {
            "from": (point["from"] * point["to"]) ** 0.5,
            "names": point["number"] / (point["to"] - point["from"] + 1),
            "counts": f"{point['from']:,}" + f" to {point['to']:,}" * (point["to"] > point["from"]),
        }
        for point in points
    ]
    top = max(2, *(point["from"] for point in data), *(limit for _, limit in limits))
    scale = {"type": "log", "domain": [1, top], "nice": False}
    x = number("from", axis=axis("~s", 6, grid=False), scale=scale)
    below_one = {"labelExpr": "datum.value < 1 ? '' + datum.value : datum.label"}
    y = number("names", axis=axis("~s", 4, domain=False) | below_one, scale={"type": "log"})
    tips = [{"field": "counts"}, number("number", format=",")]
    dots = layer({"type": "point", "size": 26, "color": KEPT}, {"x": x, "y": y, "tooltip": tips})
    return chart(data, 190, [dots, *limit_lines(limits, x)])
