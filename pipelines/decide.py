"""Decide: judge the measured columns by a recipe; no image is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.decision import SCHEMA, judge
from pipelines import statistics
from pipelines.duplicates import BATCH_ROWS, Found, uid_halves
from pipelines.exchange import Run, Send
from pipelines.hosts import send_hosts
from pipelines.inputs import Shard
from pipelines.measure import columns_path
from pipelines.schema import COLUMNS, DECISIONS, PLACES
from pipelines.statistics import Place
from pipelines.storage import parquet_writer
from pipelines.unchanged import check_stamps
from pipelines.what_if import count_cells, grid_of
from recaption.files import replacing

SUBSET = np.dtype("u8,u8")
"""DataComp's uid: the first and the last 16 of its hexadecimal digits."""


def decisions_path(output: Path, shard: str) -> Path:
    """Return where a shard's decisions are."""
    return output / "decisions" / f"{shard}.parquet"


def decide_shard(run: Run, shard: Shard, _: Iterator[pa.RecordBatch], send: Send) -> dict[str, Any]:
    """Write a shard's decisions, send the uids that are kept, and return the statistics."""
    check_stamps(shard)  # for the last time
    rules, grid = run.recipe.rules, grid_of(run.recipe)
    found = Found(run, shard) if run.recipe.duplicate else None
    empty = add_places(_empty(COLUMNS), None)
    parts = [statistics.measure(empty, _empty(SCHEMA), rules, Place(shard.name, 0))]
    row = 0
    with (
        parquet_writer(decisions_path(run.output, shard.name), DECISIONS) as sink,
        pq.ParquetFile(columns_path(run.measured, shard.name)) as source,
    ):
        for measured in source.iter_batches(BATCH_ROWS):
            columns = add_places(measured, found)
            verdicts = judge(columns, rules)
            sink.write_batch(
                pa.record_batch(
                    [columns["uid"], columns["key"], *verdicts.columns, columns["duplicate_of"]],
                    schema=DECISIONS,
                )
            )
            stays = pc.is_null(verdicts["reason"])
            kept = _halves(columns["uid"].filter(stays))
            send("subset", kept, run.partition(kept["high"].to_numpy()))
            send_hosts(run, columns["url"], stays, send)
            place = Place(shard.name, row)
            parts.append(statistics.measure(columns, verdicts, rules, place))
            if grid.thresholds:
                parts.append({"what_if": count_cells(grid, columns, verdicts)})
            row += len(columns)
    total = statistics.add(parts)
    reasons = dict(total["reasons"])
    account = {"kept": reasons.pop("kept", 0), "dropped": reasons}
    return total | {"shards": {shard.name: account}}


def merge_subset(
    run: Run, partition: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Sort the kept uids of a partition, each one once."""
    parts = list(received)
    high, low = (
        np.concatenate([np.empty(0, np.uint64), *(part[name].to_numpy() for part in parts)])
        for name in ("high", "low")
    )
    order = np.lexsort((low, high))
    uids = np.empty(len(order), SUBSET)
    uids["f0"], uids["f1"] = high[order], low[order]
    again = np.zeros(len(uids), bool)
    again[1:] = (uids["f0"][1:] == uids["f0"][:-1]) & (uids["f1"][1:] == uids["f1"][:-1])
    with replacing(subset_part(run, partition)) as temporary, temporary.open("wb") as file:
        np.save(file, uids[~again])
    return {"subset": int((~again).sum())}


def subset_part(run: Run, partition: int) -> Path:
    """Return where `merge_subset` leaves a partition."""
    return run.work / "subset" / f"{partition:05d}.npy"


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema)


def add_places(measured: pa.RecordBatch, found: Found | None) -> pa.RecordBatch:
    """Add to the next batch of measured columns the pair that stays in a row's place."""
    copies = found.next() if found else None
    for name, kind in PLACES.items():
        values = copies[name] if copies else pa.nulls(len(measured), kind)
        measured = measured.append_column(name, values)
    return measured


def _halves(uids: pa.StringArray) -> pa.RecordBatch:
    """Return uids as two numbers each, as DataComp does."""
    halves = uid_halves(uids)
    return pa.record_batch([halves[:, 0], halves[:, 1]], names=["high", "low"])
