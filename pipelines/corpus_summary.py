"""Gather what the report shows of the corpus as a whole: its texts, images, n-grams and hosts."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.count import SHARING
from pipelines.exchange import Run
from recaption.stores import readable

_TOP = 50
_CURVE_POINTS = 100


def summarise_corpus(account: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return what `report.render` shows of the corpus as a whole."""
    return {
        "top_texts": _top(run.measured, "texts", "text"),
        "top_images": _top(run.measured, "images", "image"),
        "sharing": {
            name: _sharing(account["sharing"][name])
            for name in ("texts", "images")
            if account.get("sharing", {}).get(name)
        },
        "ngrams": _ngrams(account, run),
        "hosts": _hosts(account.get("hosts", {})),
    }


def _sharing(counted: dict[str, int]) -> list[dict[str, int]]:
    """Return how many names have how many of the others: `from`, `to` (inclusive) and `number`."""
    bins = {str(low): (low, high - 1) for low, high in pairwise(SHARING.tolist())}
    found = [(*bins[low], number) for low, number in counted.items()]
    return [dict(zip(("from", "to", "number"), one, strict=True)) for one in sorted(found)]


def _hosts(counted: dict[str, Any]) -> dict[str, Any]:
    top = sorted(counted.get("top", {}).items(), key=lambda host: (-host[1][0], host[0]))
    rows = [[host, kept, rows - kept] for host, (rows, kept) in top[:_TOP]]
    return {"distinct": counted["distinct"], "top": rows} if rows else {}


def _table(output: Path, table: str) -> list[Path]:
    return sorted((output / "tables" / table).glob("*.parquet"))


def _top(output: Path, table: str, name: str) -> list[list[Any]]:
    rows = _ranks(output, table, range(1, _TOP + 1))
    return [[row[name][:400], row["count"]] for row in rows]


def _ranks(output: Path, table: str, ranks: range) -> list[dict[str, Any]]:
    """Read the rows of a ranked table with some ranks; those that were taken down are not there."""
    found: list[dict[str, Any]] = []
    for path in _table(output, table):
        with pq.ParquetFile(readable(path)) as file:
            for group in range(file.num_row_groups):
                known = file.metadata.row_group(group).column(0).statistics
                if known and known.min < ranks.stop and known.max >= ranks.start:
                    part = file.read_row_group(group)
                    first, last = np.searchsorted(part["rank"], [ranks.start, ranks.stop])
                    found += part.slice(first, last - first).to_pylist()
    return found


def _ngrams(account: dict[str, Any], run: Run) -> dict[str, Any]:
    facts = account.get("tables", {}).get("ngrams", {})
    listed = facts.get("listed", 0)
    limit = ngrams_allowed(run)
    cut: Any = None
    around: list[Any] = []
    if limit is not None and 0 < limit < listed:
        near = _ranks(run.measured, "ngrams", range(max(1, limit - 5), limit + 7))
        around = [[row["rank"], row["ngram"], row["count"]] for row in near]
        cut = next((row for row in reversed(near) if row["rank"] <= limit), None)
    most = _ranks(run.measured, "ngrams", range(1, 21))
    return {
        "distinct": facts.get("distinct", 0),
        "occurrences": facts.get("occurrences", 0),
        "listed": listed,
        "limit": limit,
        "cut": cut,
        "most": [[row["ngram"], row["count"]] for row in most],
        "around_cut": around,
        "rank_counts": _curve(run.measured, listed),
    }


def ngrams_allowed(run: Run) -> int | None:
    """Return how many n-grams the recipe allows."""
    bounds = [
        x.bound for rule in run.recipe.rules if rule.name == "ngram_rank" for x in rule.limits()
    ]
    return int(bounds[0]) if bounds and bounds[0] is not None else None


def _curve(output: Path, listed: int) -> list[list[int]]:
    """Return about a hundred points of count against rank, evenly spaced in the logarithm."""
    wanted = np.unique(np.geomspace(1, max(1, listed), _CURVE_POINTS).astype(np.int64)) - 1
    points, before = [], 0
    for path in _table(output, "ngrams"):
        with pq.ParquetFile(readable(path)) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                here = wanted[(wanted >= before) & (wanted < before + rows)]
                if len(here):
                    read = file.read_row_group(group, ["rank", "count"])
                    ranks, counts = (read[name].to_numpy() for name in read.column_names)
                    points += [[int(ranks[at]), int(counts[at])] for at in here - before]
                before += rows
    return points
