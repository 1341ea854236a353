"""Statistics of decisions: made shard by shard, and added up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.rule import Rule
from pipelines.schema import NEAREST

EXAMPLES = 12
"""Examples per reason: the rows with the smallest uids, which are as good as random."""

_CAPTION_CHARS = 400
_LABELS = 200
_CATEGORIES = ("language", "error", "format")
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
            for name in _CATEGORIES
        },
        "examples": _examples(columns, verdicts, place),
    }


def add(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up what stages found, in any order."""
    total: dict[str, Any] = {}
    for part in parts:
        add_to(total, part)
    return total


def add_to(total: dict[str, Any], part: dict[str, Any]) -> None:
    """Add what one stage found to a total, in place.

    Numbers are added up, shards are collected, and of the examples those with the smallest uids
    stay; so a total's size is that of its shards' names.
    """
    for name, found in part.items():
        if name == "shards":
            for shard, facts in found.items():
                total.setdefault(name, {}).setdefault(shard, {}).update(facts)
        elif name == "examples":
            chosen = total.setdefault(name, {})
            for reason, rows in found.items():
                chosen[reason] = _smallest(chosen.get(reason, []) + rows)
        else:
            total[name] = _sum(total[name], found) if name in total else found


def edges(name: str) -> tuple[str, list[float]]:
    """Return a histogram's scale and bin edges."""
    scale, values = _EDGES[name]
    return scale, values.tolist()


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
    columns: pa.RecordBatch, verdicts: pa.RecordBatch, place: Place
) -> dict[str, list[dict[str, Any]]]:
    """Choose the rows with the smallest uids, per reason."""
    names = (
        *("uid", "key", "url", "width", "height", "image_offset", "image_bytes", "error"),
        *NEAREST.values(),
    )
    found: dict[str, list[dict[str, Any]]] = {}
    reasons = pc.fill_null(verdicts["reason"], "kept")
    for reason in pc.unique(reasons).to_pylist():
        at = np.flatnonzero(pc.equal(reasons, reason).to_numpy(zero_copy_only=False))
        rows = pa.record_batch({"uid": columns["uid"].take(pa.array(at)), "row": at})
        smallest = pc.select_k_unstable(
            rows, min(EXAMPLES, len(at)), [("uid", "ascending"), ("row", "ascending")]
        )
        found[reason] = [
            {name: columns[name][i].as_py() for name in names}
            | {name: verdicts[name][i].as_py() for name in ("value", "threshold")}
            | {
                "caption": _cut(columns["caption"][i].as_py()),
                "shard": place.shard,
                "row": place.row + i,
            }
            for i in at[smallest.to_numpy()].tolist()
        ]
    return found


def _cut(caption: str | None) -> str | None:
    return caption if caption is None else caption[:_CAPTION_CHARS]
