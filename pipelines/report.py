"""Show a filter run on one page: which rows went, why, and what they looked like.

The page opens from disk: styles, scripts, charts and pictures are inside it, and its content
security policy forbids every request and every script but its own two. Captions come from the
open web, so each text is cut, its invisible characters are spelt out, and it is escaped.
"""

import hashlib
import re
import shlex
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from pipelines import charts
from pipelines.page import count, inert, pages
from pipelines.report_charts import LABEL_CHARACTERS, beyond, draw, needs
from pipelines.schema import COLUMNS, OF_HASHES
from pipelines.shard_table import judge_shards
from recaption.copies import root
from recaption.files import write_text

Summary = dict[str, Any]

MAX_SHARD_ROWS = 1000
MAX_EXAMPLES = 200
MAX_BYTES = 5_000_000
"""Of the page, so that it can be mailed."""
NOTHING: Summary = (
    {"rows_in": 0, "kept": 0}
    | dict.fromkeys(("title", "input", "recipe_toml", "recipe_digest", "code_version"), "")
    | {part: [] for part in ("rules", "masks", "top_texts", "top_images", "shards")}
    | {part: [] for part in ("warnings", "notes")}
    | {part: {} for part in ("dropped", "histograms", "categories", "ngrams", "examples")}
    | {part: {} for part in ("hosts", "sharing", "what_if", "captions")}
)
_BESIDE_THE_STORY = ("uid", "key", "url", "caption", "error", "image_offset", "decoded")


def write_report(summary: Summary, folder: Path) -> Path:
    """Write `index.html` into `folder`, whole or not at all, and return its path."""
    write_text(folder / "index.html", render(summary))
    return folder / "index.html"


def render(summary: Summary) -> str:
    """Return the page as HTML; a part that the summary lacks becomes a sentence.

    It has fewer examples where it would be larger than `MAX_BYTES`.

    Raises:
        ValueError: The rows kept and dropped do not add up to the rows read.
    """
    run = NOTHING | {name: value for name, value in summary.items() if value is not None}
    _check_account(run)
    shards = _shards(run["shards"])
    drawn = {name: chart for name, chart in draw(run, shards).items() if chart}
    most = MAX_EXAMPLES
    while True:
        page = _render(run, shards, drawn, most)
        if most == 0 or len(page.encode(errors="backslashreplace")) <= MAX_BYTES:
            return page
        most //= 2


def _render(run: Summary, shards: Summary, drawn: Summary, most: int) -> str:
    examples = _examples(run, most)
    told = ("thresholds", "fixed", "cells", "data", "decodes", "copies")
    what_if = {name: run["what_if"][name] for name in told if name in run["what_if"]}
    return _page().render(
        run=run,
        num_dropped=sum(run["dropped"].values()),
        examples=examples,
        shown=list(examples),
        pictures=any(row["thumbnail"] for rows in examples.values() for row in rows),
        errors=[limit["reason"] for limit in _of_errors(run)],
        beyond={column: beyond(run, column) for column in run["histograms"]},
        dials=_dials(run),
        shards=shards,
        charts=drawn,
        settings={"config": charts.CONFIG, "charts": drawn, "whatIf": what_if}
        | {"rows": run["rows_in"]},
    )


def _of_errors(run: Summary) -> list[Summary]:
    return [limit for rule in run["rules"] if rule["column"] == "error" for limit in rule["limits"]]


def _examples(run: Summary, most: int) -> dict[str, list[Summary]]:
    """The pairs to show of each reason, the same number of all, each with its story."""
    needed = {rule["name"]: rule["title"] for rule in run["rules"]}
    order = list({"kept": 0} | run["dropped"] | run["examples"])
    found = {reason: run["examples"].get(reason) for reason in order}
    each = most // max(1, sum(map(bool, found.values())))
    return {
        reason: [row | _story(row, needed) for row in rows[:each]]
        for reason, rows in found.items()
        if rows and each
    }


def _story(row: Summary, needed: dict[str, str]) -> Summary:
    """What was measured of a pair, and what every rule said of it."""
    names = [name for name in COLUMNS.names if name in row and name not in _BESIDE_THE_STORY]
    measured = {n: row[n] for n in names if row[n] is not None or n not in OF_HASHES}
    return {
        "measured": [(name, _spoken(value)) for name, value in measured.items()],
        "verdicts": [
            (
                rule,
                needed.get(rule, ""),
                _rounded(value),
                verdict.removeprefix(f"{rule}."),
                "." in verdict,
            )
            for rule, value, verdict in row["verdicts"]
        ],
    }


def _rounded(value: str | None) -> str:
    """A value that decided, a fraction with no more digits than can matter."""
    if value is None:
        return "unknown"
    return f"{float(value):.4g}" if re.fullmatch(r"\d+\.\d{5,}", value) else value


def _spoken(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4g}"
    return count(value) if isinstance(value, int) else inert(str(value), 120)


def _dials(run: Summary) -> list[Summary]:
    """The thresholds that can be turned, and those whose rule did not run."""
    skipped = {rule["name"] for rule in run["rules"] if rule["skipped"]}
    return [
        one | {"at": at, "skipped": one["rule"] in skipped}
        for at, one in enumerate(run["what_if"].get("thresholds", []))
        if len(one["stops"]) > 1
    ]


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


def _fingerprint(script: str) -> str:
    """A script's source expression in a content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{b64encode(digest).decode()}'"


def _engine() -> str:
    """Return Vega's scripts, which take a second of CPU to bundle and are kept for the next run."""
    bundle = root() / f"vega-{version('vl-convert-python')}.js"
    if not bundle.exists():
        write_text(bundle, vl_convert.javascript_bundle())  # type: ignore[call-arg]  # it has a default
    return bundle.read_text(encoding="utf-8")


@cache
def _page() -> jinja2.Template:
    environment = pages()
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters |= {"needs": needs, "quote": shlex.quote, "fingerprint": _fingerprint}
    environment.globals["engine"] = Markup(_engine())
    return environment.get_template("report.html.j2")
