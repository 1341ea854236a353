"""Statistics of decisions: made shard by shard, and added up."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.decision import verdicts_of
from filters.rule import Rule
from pipelines.bundles import Bundle
from pipelines.exchange import Exchange, Send, Task
from pipelines.hosts import add_hosts
from pipelines.what_if import add_cells
from recaption.files import read_json, write_text
from recaption.manifest import ManifestError

NAME = "statistics.json"
"""What a run's stages found, added up: all that its report needs beside the manifest."""

EXAMPLES = 12
"""Examples per reason: the rows with the smallest uids, which are as good as random."""

_TEXT_CHARS = 400
_LABELS = 200
CATEGORIES = ("language", "error", "format")
_SMALL = np.arange(0, 66)
_EDGES: dict[str, tuple[str, NDArray[Any]]] = {
    "token_count": ("linear", _SMALL),
    "word_count": ("linear", _SMALL),
    "char_count": ("linear", np.arange(0, 648, 8)),
    "language_score": ("linear", np.linspace(0, 1, 41)),
    "nsfw_score": ("linear", np.linspace(0, 1, 41)),
    "clip_score": ("linear", np.linspace(0, 0.5, 51)),
    "phash_distance": ("linear", np.arange(0, 18)),
    "pdq_distance": ("linear", np.arange(0, 66)),
    "pdq_quality": ("linear", np.arange(0, 102)),
    "embedding_similarity": ("linear", np.linspace(0, 1, 101)),
    "aspect_ratio": ("linear", np.linspace(1, 6, 51)),
    "shorter_side_px": ("log", np.unique(np.round(2 ** np.arange(0, 14.25, 0.25)))),
    "image_bytes": ("log", 2.0 ** np.arange(0, 31)),
    "images_per_text": ("log", np.unique(np.round(2 ** np.arange(0, 20.5, 0.5)))),
    "texts_per_image": ("log", np.unique(np.round(2 ** np.arange(0, 20.5, 0.5)))),
    "ngram_rank": ("log", np.unique(np.round(10 ** np.arange(0, 9.25, 0.25)))),
}
"""Scale and bin edges of each histogram; what lies beyond the ends is counted in the end bins."""


Row = dict[str, Any]


class Place(NamedTuple):
    """A row of a shard."""

    shard: str
    row: int


def measure(
    columns: pa.RecordBatch, verdicts: pa.RecordBatch, rules: Sequence[Rule], place: Place
) -> dict[str, Any]:
    """Make the statistics of a batch.

    Args:
        columns: The measured columns.
        verdicts: What `filters.decision.judge` said of them.
        rules: The recipe's.
        place: Where the batch begins.
    """
    kept = pc.is_null(verdicts["reason"]).to_numpy(zero_copy_only=False)
    masks, mask_rows = np.unique(verdicts["broken"].to_numpy(), return_counts=True)
    return {
        "rows": len(columns),
        "reasons": _count(pc.fill_null(verdicts["reason"], "kept")),
        "masks": {str(m): int(n) for m, n in zip(masks, mask_rows, strict=True)},
        "unjudged": {
            rule.name: 0 if rule.knows_null else columns[rule.column].null_count for rule in rules
        },
        "unchecked": int((kept & pc.is_null(columns["decoded"]).to_numpy(False)).sum()),
        "histograms": {
            name: _histogram(columns[name], kept, edges[1]) for name, edges in _EDGES.items()
        },
        "categories": {
            name: [_count(columns[name].filter(pa.array(side))) for side in (kept, ~kept)]
            for name in CATEGORIES
        },
        "examples": _examples(columns, verdicts, rules, place),
    }


def add(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up what stages found, in any order."""
    total: dict[str, Any] = {}
    for part in parts:
        add_to(total, part)
    return total


def of_each(task: Task) -> Task:
    """Return a task on a bundle: it does a task on each shard, and adds up what they find."""
    return partial(_of_each, task)


def _of_each(
    task: Task, run: Exchange, bundle: Bundle, received: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    return add(task(run, shard, received, send) for shard in bundle.shards)


def add_to(total: dict[str, Any], part: dict[str, Any]) -> None:
    """Add what one stage found to a total, in place.

    Numbers are added up, shards are collected, and of the examples those with the smallest uids
    stay; so a total's size is that of its shards' names.
    """
    for name, found in part.items():
        if name == "shards":
            for shard, facts in found.items():
                total.setdefault(name, {}).setdefault(shard, {}).update(facts)
        elif name in _ADDED:
            total[name] = _ADDED[name](total[name], found) if name in total else found
        elif name == "examples":
            chosen = total.setdefault(name, {})
            for reason, rows in found.items():
                chosen[reason] = _smallest(chosen.get(reason, []) + rows)
        else:
            total[name] = _sum(total[name], found) if name in total else found


def write_statistics(total: dict[str, Any], output: Path) -> None:
    """Write what a run's stages found, but for its shards, which are in the manifest."""
    kept = {name: found for name, found in total.items() if name != "shards"}
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    write_text(output / NAME, text + "\n")


def read_statistics(output: Path) -> dict[str, Any]:
    """Read what `write_statistics` wrote.

    Raises:
        ManifestError: There is none.
    """
    path = output / NAME
    if not path.is_file():
        raise ManifestError(
            f"{output} must hold a run's statistics, got no {NAME} there; run decide, which writes "
            "it in seconds"
        )
    found: dict[str, Any] = read_json(path)
    return found


def histograms() -> list[str]:
    """Return the columns with histograms, in the order of showing them."""
    return list(_EDGES)


def edges(name: str) -> tuple[str, list[float]]:
    """Return a histogram's scale and bin edges."""
    scale, values = _EDGES[name]
    return scale, values.tolist()


_ADDED = {"what_if": add_cells, "hosts": add_hosts}
"""How to add up what is not a sum of numbers."""


def _smallest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["uid"], row["shard"], row["row"]))[:EXAMPLES]


def _sum(a: Any, b: Any) -> Any:
    if isinstance(b, dict):
        return {k: _sum(a[k], b[k]) if k in a and k in b else a.get(k, b.get(k)) for k in a | b}
    if isinstance(b, list):
        return [_sum(x, y) for x, y in zip(a, b, strict=True)]
    return a + b


def _histogram(values: pa.Array, kept: NDArray[np.bool_], bins: NDArray[Any]) -> dict[str, Any]:
    known = pc.is_valid(values).to_numpy(zero_copy_only=False)
    numbers = values.to_numpy(zero_copy_only=False)
    clipped = np.clip(numbers.astype(np.float64), bins[0], np.nextafter(bins[-1], -np.inf))
    return {
        "kept": np.histogram(clipped[known & kept], bins)[0].tolist(),
        "dropped": np.histogram(clipped[known & ~kept], bins)[0].tolist(),
        "missing": int((~known).sum()),
    }


def _count(values: pa.StringArray) -> dict[str, int]:
    counted = values.drop_null().value_counts().to_pylist()
    return dict(Counter({v["values"]: v["counts"] for v in counted}).most_common(_LABELS))


def _examples(
    columns: pa.RecordBatch, verdicts: pa.RecordBatch, rules: Sequence[Rule], place: Place
) -> dict[str, list[Row]]:
    """Choose the rows with the smallest uids, per reason."""
    found: dict[str, list[Row]] = {}
    reasons = pc.fill_null(verdicts["reason"], "kept")
    for reason in pc.unique(reasons).to_pylist():
        at = np.flatnonzero(pc.equal(reasons, reason).to_numpy(zero_copy_only=False))
        rows = pa.record_batch({"uid": columns["uid"].take(pa.array(at)), "row": at})
        smallest = pc.select_k_unstable(
            rows, min(EXAMPLES, len(at)), [("uid", "ascending"), ("row", "ascending")]
        )
        chosen = at[smallest.to_numpy()]
        found[reason] = _told(columns, verdicts, rules, place, chosen)
    return found


def _told(
    columns: pa.RecordBatch,
    verdicts: pa.RecordBatch,
    rules: Sequence[Rule],
    place: Place,
    chosen: NDArray[np.int64],
) -> list[Row]:
    """Tell all that is known of some rows: their columns, and what every rule says of them."""
    at = pa.array(chosen)
    rows, decided = columns.take(at), verdicts.select(["value", "threshold"]).take(at)
    each = zip(
        *(rows.to_pylist(), decided.to_pylist(), verdicts_of(rows, rules), chosen.tolist()),
        strict=True,
    )
    return [
        {name: _cut(value) for name, value in (row | why).items()}
        | {"length": None if row["caption"] is None else len(row["caption"])}
        | {"verdicts": [[_cut(part) for part in said] for said in every]}
        | {"shard": place.shard, "row": place.row + i}
        for row, why, every, i in each
    ]


def _cut(value: Any) -> Any:
    return value[:_TEXT_CHARS] if isinstance(value, str) else value
