"""Draw what a run's summary says: all charts of its report, by their names in the page."""

import operator
from collections.abc import Sequence
from typing import Any

from pipelines import charts, corpus_charts, run_charts
from pipelines.page import count, inert, share

Summary = dict[str, Any]

LABEL_CHARACTERS = 48
MAX_CATEGORIES = 20
COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
SPOKEN = {">=": "≥", "<=": "≤", "in": "one of"}


def draw(run: Summary, shards: Summary) -> dict[str, charts.Spec | None]:
    """All charts by their name in the page, None where there is nothing to draw."""
    hosts = run["hosts"].get("top", [])[:MAX_CATEGORIES]
    drawn = {
        "strip": run_charts.strip(run["kept"], run["dropped"]) if run["rows_in"] else None,
        "funnel": run_charts.funnel(_steps(run)) if run["rows_in"] and run["rules"] else None,
        "overlaps": _overlaps(run),
        "texts": _ranking(run, "top_texts", "images_per_text"),
        "images": _ranking(run, "top_images", "texts_per_image"),
        "ranks": _rank_curve(run["ngrams"]),
        "shards": _shard_shares(shards),
        "hosts": run_charts.split_bars(_largest(hosts)) if hosts else None,
    }
    for column, bins in run["histograms"].items():
        if len(bins["edges"]) > 1:
            drawn[f"histogram {column}"] = run_charts.histogram(bins, lines_of(run, column))
    for name, column in (("texts", "images_per_text"), ("images", "texts_per_image")):
        points = run["sharing"].get(name)
        if points:
            limits = lines_of(run, column)
            drawn[f"sharing {name}"] = corpus_charts.sharing(points, limits)
    for column, rows in run["categories"].items():
        if rows:
            drawn[f"category {column}"] = run_charts.split_bars(_largest(rows))
    return drawn


def _steps(run: Summary) -> list[charts.Spec]:
    """The funnel from the rows read to the rows kept, in the recipe's order."""
    rows_in = left = run["rows_in"]

    def step(name: str, dropped: int, note: str, colour: str) -> charts.Spec:
        return {"name": name, "left": left, "dropped": dropped, "note": note, "colour": colour}

    def loss(rows: int) -> str:
        return f"\u2212{count(rows)} ({share(rows, rows_in)})" if rows else "0"

    steps = [step("rows in", 0, count(left), charts.TOTAL)]
    for rule in run["rules"]:
        left -= rule["first"]
        note = "did not run" if rule["skipped"] else loss(rule["first"])
        steps.append(step(rule["name"], rule["first"], note, charts.FLOW))
    others, left = left - run["kept"], run["kept"]
    if others:
        steps.append(step("other reasons", others, loss(others), charts.FLOW))
    return [*steps, step("kept", 0, f"{count(left)} ({share(left, rows_in)})", charts.KEPT)]


def _overlaps(run: Summary) -> charts.Spec | None:
    combinations = [row for row in run["masks"] if row["rules"]]
    broken = {rule for row in combinations for rule in row["rules"]}
    in_order = [rule["name"] for rule in run["rules"] if rule["name"] in broken]
    names = [*in_order, *sorted(broken - set(in_order))]
    return run_charts.overlaps(combinations, names) if combinations else None


def _ranking(run: Summary, items: str, column: str) -> charts.Spec | None:
    limits = _limits(run, column)

    def colour(num: int) -> str:
        fits = all(COMPARE[limit["op"]](num, limit["value"]) for limit in limits)
        return charts.KEPT if fits else charts.DROPPED

    top = run[items][:MAX_CATEGORIES]
    rows = [(inert(label, LABEL_CHARACTERS), num, colour(num)) for label, num in top]
    return corpus_charts.ranking(rows, lines_of(run, column)) if rows else None


def _rank_curve(ngrams: Summary) -> charts.Spec | None:
    cut = ngrams.get("cut")
    lines = [(f"list ends at rank {count(cut['rank'])}", cut["rank"])] if cut else []
    points = ngrams.get("rank_counts")
    return corpus_charts.rank_curve(points, lines) if points else None


def _shard_shares(shards: Summary) -> charts.Spec | None:
    dots = [row for row in shards["rows"] if row["rows"]]
    return corpus_charts.shard_shares(dots, shards["median"], shards["reach"]) if dots else None


def _limits(run: Summary, column: str) -> list[Summary]:
    """The limits that the recipe sets to a numeric column."""
    rules = [rule for rule in run["rules"] if rule["column"] == column]
    return [limit for rule in rules for limit in rule["limits"] if limit["op"] in COMPARE]


def lines_of(run: Summary, column: str) -> list[tuple[str, float]]:
    """Return what the limits of a column ask for, in words, and where they are."""
    return [(needs(limit), limit["value"]) for limit in _limits(run, column)]


def beyond(run: Summary, column: str) -> list[str]:
    """The limits that no line can show, since no row comes near them."""
    edges = run["histograms"][column]["edges"]
    lines = lines_of(run, column)
    return [label for label, limit in lines if not charts.in_sight(limit, edges)]


def _largest(rows: Sequence[Sequence[Any]]) -> list[tuple[str, int, int]]:
    """The largest categories, and one for all the others."""
    ordered = sorted(rows, key=lambda row: -row[1] - row[2])
    top, rest = ordered[:MAX_CATEGORIES], ordered[MAX_CATEGORIES:]
    bars = [(inert(label, LABEL_CHARACTERS), kept, dropped) for label, kept, dropped in top]
    if rest:
        others = f"{count(len(rest))} others"
        bars.append((others, sum(row[1] for row in rest), sum(row[2] for row in rest)))
    return bars


def needs(limit: Summary) -> str:
    """What a limit asks of a row, such as `≥ 3` or `one of en, de`."""
    op, value = str(limit["op"]), limit["value"]
    if op == "is null":
        return op
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return f"{SPOKEN.get(op, op)} {inert(value, 120) if isinstance(value, str) else count(value)}"
