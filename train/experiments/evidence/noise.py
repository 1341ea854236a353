"""Measure how often raw captions are wrong, by their words, whatever the generator says of them."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.classes import classes_of
from recaption.captions import captions_path
from recaption.filter_run import FilterRun


def told_by_words(folder: Path) -> dict[str, float]:
    """Return what the raw captions of a recaptioned sample name.

    Args:
        folder: Of a filter run, with captions.

    Returns:
        Shares of all rows: `true` name the very class of the picture, or colour and shape, and
        `partner` exactly those that the noise of that name puts in their place; and `rows`.
    """
    counts: Counter[str] = Counter()
    run = FilterRun(folder)
    for shard in run.shards:
        assert shard.parquet is not None  # of a sample there is one
        classes = classes_of(shard.parquet.parent)
        truth = pq.read_table(shard.parquet, columns=list(classes.columns)).to_pylist()
        raw = pq.read_table(captions_path(folder, shard.name), columns=["raw"])["raw"]
        for row, text in zip(truth, raw.to_pylist(), strict=True):
            named = classes.named(text)
            true = tuple(row[column] for column in classes.columns)
            counts["true"] += named == [[name] for name in true]
            counts["partner"] += named == [[name] for name in classes.partners[true]]
        counts["rows"] += len(truth)
    shares = {name: counts[name] / counts["rows"] for name in ("true", "partner")}
    return shares | {"rows": counts["rows"]}
