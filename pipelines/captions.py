"""Merge captions: give the pair that stays the captions of the copies that went."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.count import hash128
from pipelines.duplicates import BATCH_ROWS, Found
from pipelines.exchange import Run, Send
from pipelines.inputs import Shard
from pipelines.measure import columns_path
from pipelines.storage import ipc_writer, parquet_writer, read_ipc
from recaption.stores import readable

_SENT = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("stays", pa.bool_()),
        ("uid", pa.string()),
        ("caption", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int64()),
    ]
)
_MERGED = pa.schema([("uid", pa.string()), ("captions", pa.list_(pa.string()))])
"""`tables/merged_captions/*.parquet`: what the copies say, other than the one that stays."""

_OF_SHARDS = pa.schema(
    [("shard", pa.string()), ("row", pa.int64()), ("captions", pa.list_(pa.string()))]
)


def send_captions(
    run: Run, shard: Shard, _: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Send the captions of a shard's copies, and of the pairs that stay in their place."""
    found, row = Found(run, shard), 0
    with pq.ParquetFile(columns_path(run.measured, shard.name)) as source:
        for columns in source.iter_batches(BATCH_ROWS, columns=["uid", "caption"]):
            rows = found.next()
            some = pc.or_(rows["stays"], pc.is_valid(rows["duplicate_of"]))
            at = np.flatnonzero(some.to_numpy(zero_copy_only=False))
            taken = [*rows.select(["high", "low", "stays"]).take(pa.array(at)).columns]
            taken += columns.take(pa.array(at)).columns
            batch = pa.record_batch(
                [*taken, pa.repeat(shard.name, len(at)), row + at], schema=_SENT
            )
            send("captions", batch, run.partition(batch["high"].to_numpy()))
            row += len(columns)
    return {}


def merge_captions(
    run: Run, partition: int, received: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Write the distinct captions of each group of a partition; send them to their shards."""
    rows = pa.Table.from_batches(list(received), _SENT)
    keys = ["high", "low"]
    stays = rows.filter(rows["stays"]).sort_by([(key, "ascending") for key in keys])
    said = rows.group_by([*keys, "caption"], use_threads=False).aggregate([("stays", "max")])
    said = said.filter(pc.invert(said["stays_max"]))
    binary = said.append_column("bytes", pc.cast(said["caption"], pa.binary()))
    said = binary.sort_by([(key, "ascending") for key in (*keys, "bytes")])
    counts = _count(stays, said)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    captions = pa.ListArray.from_arrays(pa.array(offsets), said["caption"].combine_chunks())
    merged = stays.append_column("captions", captions).filter(pa.array(counts > 0))
    merged = merged.sort_by([("uid", "ascending"), ("shard", "ascending"), ("row", "ascending")])
    path = run.output / "tables" / "merged_captions" / f"{partition:05d}.parquet"
    with parquet_writer(path, _MERGED) as sink:
        sink.write_table(merged.select(_MERGED.names))
    for batch in merged.select(_OF_SHARDS.names).combine_chunks().to_batches():
        send("merged", batch, run.partition(hash128(batch["shard"])[0]))
    return {"duplicates": {"captions": len(said)}}


def write_captions(
    run: Run, _: int, received: Iterator[pa.RecordBatch], __: Send
) -> dict[str, Any]:
    """Write what was merged, shard by shard."""
    table = pa.Table.from_batches(list(received), _OF_SHARDS)
    table = table.sort_by([("shard", "ascending"), ("row", "ascending")]).combine_chunks()
    shards = table["shard"].combine_chunks()
    for name in pc.unique(shards).to_pylist():
        part = table.filter(pc.equal(table["shard"], name)).combine_chunks()
        with ipc_writer(_path(run, name), _OF_SHARDS) as sink:
            sink.write_table(part)
    return {}


def captions_of(
    run: Run, shard: Shard, at: NDArray[np.int64], uids: pa.ChunkedArray
) -> pa.ListArray:
    """Return the captions merged into some rows of a shard; an empty list where there are none.

    Once the run is over, rows are known by their uids alone.
    """
    merged: dict[Any, list[str]] = {}
    names: list[Any] = at.tolist()
    if (run.work / "duplicates").exists():
        parts = read_ipc(_path(run, shard.name)) if _path(run, shard.name).exists() else ()
        tables: Iterator[Any] = (batch.select(["row", "captions"]) for batch in parts)
    else:
        names = uids.to_pylist()
        folder = run.output / "tables" / "merged_captions"
        wanted = [("uid", "in", names)]
        files = sorted(folder.glob("*.parquet"))
        tables = (pq.read_table(readable(file), filters=wanted) for file in files)
    for table in tables:
        merged |= dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return pa.array([merged.get(name, []) for name in names], pa.list_(pa.string()))


def _count(stays: pa.Table, said: pa.Table) -> NDArray[np.int64]:
    """Return how many captions each group has; both tables are sorted by key."""
    high, low = (said[name].to_numpy() for name in ("high", "low"))
    new = np.ones(len(said), bool)
    new[1:] = (np.diff(high) != 0) | (np.diff(low) != 0)
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(said)))
    key = np.dtype([("high", "u8"), ("low", "u8")])
    groups, wanted = np.empty(len(stays), key), np.empty(len(starts), key)
    for name in key.names or ():
        groups[name] = stays[name].to_numpy()
        wanted[name] = said[name].to_numpy()[starts]
    counts = np.zeros(len(stays), np.int64)
    counts[np.searchsorted(groups, wanted)] = sizes
    return counts


def _path(run: Run, shard: str) -> Path:
    return run.work / "duplicates" / "captions" / f"{shard}.arrow"
