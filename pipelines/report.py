"""Show a filter run on one page: which rows went, why, and what they looked like.

The page opens from disk: styles, scripts, charts and pictures are inside it, and its content
security policy forbids every request and every script but its own two. Captions come from the
open web, so each text is cut, its invisible characters are spelt out, and it is escaped.
"""

import hashlib
import operator
import shlex
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from pipelines import charts
from pipelines.page import count, inert, pages, share
from pipelines.shard_table import judge_shards
from recaption.files import write_text

Summary = dict[str, Any]

LABEL_CHARACTERS = 48
MAX_CATEGORIES = 20
MAX_SHARD_ROWS = 1000
COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
NOTHING: Summary = (
    {"rows_in": 0, "kept": 0}
    | dict.fromkeys(("title", "input", "recipe_toml", "recipe_digest", "code_version"), "")
    | {part: [] for part in ("rules", "masks", "top_texts", "top_images", "shards")}
    | {part: [] for part in ("warnings", "notes")}
    | {part: {} for part in ("dropped", "histograms", "categories", "ngrams", "examples")}
)
GLOBALS = "window.vegaEmbed = vegaEmbed;"
SPOKEN = {">=": "≥", "<=": "≤", "in": "one of"}


def write_report(summary: Summary, folder: Path) -> Path:
    """Write `index.html` into `folder`, whole or not at all, and return its path."""
    write_text(folder / "index.html", render(summary))
    return folder / "index.html"


def render(summary: Summary) -> str:
    """Return the page as HTML; a part that the summary lacks becomes a sentence.

    Raises:
        ValueError: The rows kept and dropped do not add up to the rows read.
    """
    run = NOTHING | {name: value for name, value in summary.items() if value is not None}
    _check_account(run)
    reasons = {"kept": 0} | run["dropped"] | run["examples"]
    shards = _shards(run["shards"])
    drawn = {name: chart for name, chart in _charts(run, shards).items() if chart}
    return _page().render(
        run=run,
        num_dropped=sum(run["dropped"].values()),
        shown=[reason for reason in reasons if run["examples"].get(reason)],
        pictures=any(row["thumbnail"] for rows in run["examples"].values() for row in rows),
        errors=[rule["limits"] for rule in run["rules"] if rule["column"] == "error"],
        beyond={column: _beyond(run, column) for column in run["histograms"]},
        shards=shards,
        charts=drawn,
        settings={"config": charts.CONFIG, "charts": drawn},
    )


def _check_account(run: Summary) -> None:
    dropped = sum(run["dropped"].values())
    first = sum(rule["first"] for rule in run["rules"])
    if run["rows_in"] != run["kept"] + dropped:
        raise ValueError(
            f"rows_in must equal kept + dropped, got {run['rows_in']} != {run['kept']} + "
            f"{dropped} in the run's summary; count each row once, under its first broken rule"
        )
    if first > dropped:
        raise ValueError(
            f"rules must not drop more rows than the run, got {first} > {dropped} in the run's "
            "summary; count each row once, under its first broken rule"
        )


def _charts(run: Summary, shards: Summary) -> dict[str, charts.Spec | None]:
    """All charts by their name in the page, None where there is nothing to draw."""
    drawn = {
        "strip": charts.strip(run["kept"], run["dropped"]) if run["rows_in"] else None,
        "funnel": charts.funnel(_steps(run)) if run["rows_in"] and run["rules"] else None,
        "overlaps": _overlaps(run),
        "texts": _ranking(run, "top_texts", "images_per_text"),
        "images": _ranking(run, "top_images", "texts_per_image"),
        "ranks": _rank_curve(run["ngrams"]),
        "shards": _shard_shares(shards),
    }
    for column, bins in run["histograms"].items():
        if len(bins["edges"]) > 1:
            drawn[f"histogram {column}"] = charts.histogram(bins, _lines(run, column))
    for column, rows in run["categories"].items():
        if rows:
            drawn[f"category {column}"] = charts.split_bars(_largest(rows))
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
    return charts.overlaps(combinations, names) if combinations else None


def _ranking(run: Summary, items: str, column: str) -> charts.Spec | None:
    limits = _limits(run, column)

    def colour(num: int) -> str:
        fits = all(COMPARE[limit["op"]](num, limit["value"]) for limit in limits)
        return charts.KEPT if fits else charts.DROPPED

    rows = [(inert(label, LABEL_CHARACTERS), num, colour(num)) for label, num in run[items]]
    return charts.ranking(rows, _lines(run, column)) if rows else None


def _rank_curve(ngrams: Summary) -> charts.Spec | None:
    cut = ngrams.get("cut")
    lines = [(f"list ends at rank {count(cut['rank'])}", cut["rank"])] if cut else []
    points = ngrams.get("rank_counts")
    return charts.rank_curve(points, lines) if points else None


def _shard_shares(shards: Summary) -> charts.Spec | None:
    dots = [row for row in shards["rows"] if row["rows"]]
    return charts.shard_shares(dots, shards["median"], shards["reach"]) if dots else None


def _limits(run: Summary, column: str) -> list[Summary]:
    """The limits that the recipe sets to a numeric column."""
    rules = [rule for rule in run["rules"] if rule["column"] == column]
    return [limit for rule in rules for limit in rule["limits"] if limit["op"] in COMPARE]


def _lines(run: Summary, column: str) -> list[tuple[str, float]]:
    return [(needs(limit), limit["value"]) for limit in _limits(run, column)]


def _beyond(run: Summary, column: str) -> list[str]:
    """The limits that no line can show, since no row comes near them."""
    edges = run["histograms"][column]["edges"]
    lines = _lines(run, column)
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


def _shards(rows: Sequence[Summary]) -> Summary:
    """The shards that the page lists, outliers first, and what makes one an outlier.

    Of the others an even sample is listed where there are more than the page can hold.
    """
    table = judge_shards(rows)
    shown = [row | {"shard": inert(row["shard"], LABEL_CHARACTERS)} for row in table.rows]
    outliers = sorted((row for row in shown if row["outlier"]), key=lambda row: -row["away"])
    others = [row for row in shown if not row["outlier"]]
    room = min(len(others), max(0, MAX_SHARD_ROWS - len(outliers)))
    sample = [others[i * len(others) // room] for i in range(room)]
    return {
        "rows": (outliers + sample)[:MAX_SHARD_ROWS],
        "num": len(rows),
        "num_outliers": table.num_outliers,
        "median": table.median,
        "reach": table.reach,
    }


def needs(limit: Summary) -> str:
    """What a limit asks of a row, such as `≥ 3` or `one of en, de`."""
    op, value = str(limit["op"]), limit["value"]
    if op == "is null":
        return op
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return f"{SPOKEN.get(op, op)} {inert(value, 120) if isinstance(value, str) else count(value)}"


def _fingerprint(script: str) -> str:
    """A script's source expression in a content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{b64encode(digest).decode()}'"


@cache
def _page() -> jinja2.Template:
    environment = pages()
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters |= {"needs": needs, "quote": shlex.quote, "fingerprint": _fingerprint}
    environment.globals["engine"] = Markup(vl_convert.javascript_bundle(GLOBALS))
    return environment.get_template("report.html.j2")
