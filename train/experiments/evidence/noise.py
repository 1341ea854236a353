"""Measure how often raw captions are wrong, by their words, whatever the generator says of them."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.mixture import partner_of
from pipelines.scene import COLOURS, SHAPES
from recaption.captions import captions_path
from recaption.filter_run import FilterRun


def told_by_words(folder: Path) -> dict[str, float]:
    """Return what the raw captions of a recaptioned sample name.

    Args:
        folder: Of a filter run, with captions.

    Returns:
        Shares of all rows: `true` name the very colour and shape of the picture, and `partner`
        exactly those that the noise of that name puts in their place.
    """
    counts: Counter[str] = Counter()
    run = FilterRun(folder)
    for shard in run.shards:
        assert shard.parquet is not None  # of a sample there is one
        truth = pq.read_table(shard.parquet, columns=["colour", "shape"]).to_pylist()
        raw = pq.read_table(captions_path(folder, shard.name), columns=["raw"])["raw"]
        for row, text in zip(truth, raw.to_pylist(), strict=True):
            words = set((text or "").lower().split())
            named = (words & {*COLOURS}, words & {*SHAPES})
            pair = (row["colour"], row["shape"])
            counts["true"] += named == tuple({word} for word in pair)
            counts["partner"] += named == tuple({word} for word in partner_of(*pair))
        counts["rows"] += len(truth)
    return {name: counts[name] / counts["rows"] for name in ("true", "partner")}
