"""List the samples of a shard that a filter run decided on, with the captions chosen for it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.captions import (
    DECIDED_BY,
    captions_path,
    note_of,
    winners_of,
)
from recaption.filter_run import FilterRun
from recaption.spans import spans
from train.mixing import Captions
from train.places import Places, Row, clean, size_of_images, values_of
from train.sources import Shard, open_run

_NO_IMAGE = pa.array(
    ["download_failed", "image_missing", "image_undecodable", "image_too_large", "image_damaged"]
)
"""Errors of rows whose images cannot be learnt from."""

_NONE = pa.scalar(None, pa.string())


def list_filtered(shard: Shard, captions: Captions) -> Places:
    """List the samples of a shard of a filter run.

    Raises:
        RecipeError: The run has no such captions, or they were chosen before it decided anew.
    """
    run = open_run(shard.run_output)
    rows = run.rows(next(one for one in run.shards if one.name == shard.of_run))
    columns, may = _texts(run, shard.of_run, rows, captions)
    texts = [values_of(column) for column in columns]
    there = pc.fill_null(pc.greater(rows["image_bytes"], 0), False)
    whole = pc.and_(there, pc.invert(pc.is_in(rows["error"], _NO_IMAGE))).to_numpy()
    places, (ends, sizes) = Places(), _groups(shard, len(rows))
    places.left_out["image_missing"] += int((~whole).sum())
    places.left_out["dropped"] += int((whole & ~may).sum())
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        first = int(ends[number - 1]) if number else 0
        at = first + np.flatnonzero((whole & may)[first:end])
        places.add(number, size, _rows(shard, rows, texts, at, first), captions)
    return places


def _rows(
    shard: Shard, rows: pa.Table, texts: list[list[Any]], at: NDArray[np.int64], first: int
) -> list[Row]:
    some = rows.select(["key", "image_offset", "image_bytes"]).take(pa.array(at))
    return [
        (key, row - first if shard.image else offset, size, [clean(one[row]) for one in texts])
        for row, key, offset, size in zip(
            at.tolist(), *(column.to_pylist() for column in some.columns), strict=True
        )
    ]


def _groups(shard: Shard, rows: int) -> tuple[list[int], list[int]]:
    """Return where groups of rows end, and what their images take in memory."""
    if not shard.image:
        return [rows], [0]
    with pq.ParquetFile(spans(shard.path)) as file:
        numbers = range(file.num_row_groups)
        ends = np.cumsum([file.metadata.row_group(number).num_rows for number in numbers])
        return ends.tolist(), [size_of_images(file, number, shard.image) for number in numbers]


def _texts(
    run: FilterRun, name: str, rows: pa.Table, captions: Captions
) -> tuple[list[pa.ChunkedArray], NDArray[np.bool_]]:
    """Return the captions of each kind that is read, and which rows may be learnt from at all.

    A caption is null where a row has none of its kind to be read.
    """
    kept: Any = rows["kept"]
    texts, may = {"raw": rows["caption"], "chosen": rows["caption"]}, {"raw": kept, "chosen": kept}
    if captions.pairs == "chosen" or captions.names != ("raw",):
        written = _written(run, name)
        if written is not None:
            winners = pa.chunked_array([winners_of(written).field("text")])
            texts = {"raw": rows["caption"], "synthetic": winners, "chosen": written["chosen"]}
            may = {"raw": written["keeps_raw"], "synthetic": written["keeps_synthetic"]}
            may["chosen"] = pc.is_valid(written["chosen"])
    unknown = [kind for kind in captions.names if kind not in texts]
    if unknown:
        raise RecipeError(
            f"captions.weights.{unknown[0]} must be a kind of caption that the data has, got none "
            f"in {run.output}; it has {' and '.join(texts)}"
        )
    if captions.pairs != "chosen":
        asked = kept if captions.pairs == "kept" else pa.chunked_array([np.ones(len(rows), bool)])
        may = dict.fromkeys(texts, asked)
    some = np.any([pc.fill_null(may[kind], False).to_numpy() for kind in captions.names], axis=0)
    return [pc.if_else(may[kind], texts[kind], _NONE) for kind in captions.names], some


def _written(run: FilterRun, name: str) -> pa.Table | None:
    """Read the captions of a shard; None where none were written for the run."""
    path = captions_path(run.output, name)
    if not (run.output / "captions").is_dir():
        return None
    written = pq.read_table(path) if path.exists() else None
    if written is None or note_of(written.schema, DECIDED_BY) != run.manifest["recipe_digest"]:
        raise RecipeError(
            f"{path} must be chosen by what is decided now, got captions that are not; run python "
            '-m recaption choose, or take captions.pairs = "kept" with the weight of raw alone'
        )
    return written
