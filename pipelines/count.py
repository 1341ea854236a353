"""Count: read every shard once, and count texts, images and n-grams over the whole corpus.

Reading a shard gives what is known of each row alone, kept beside the run until `measure`, and
sends two things on: its distinct (text, image) pairs, and its n-grams with their counts.  Distinct
images per text are then counted in two steps, so that one text on a third of all rows is no
partition of its own: pairs meet pair by pair, and only their numbers meet text by text.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from pipelines import ngrams
from pipelines.exchange import Run, Send
from pipelines.facts import FACTS, facts_path, image_keys, measure_facts
from pipelines.inputs import Shard
from pipelines.rows import read_rows
from pipelines.storage import ipc_writer
from pipelines.takedown_list import spare
from pipelines.unchanged import check_stamps, file_digest

SHARING = np.unique(np.round(2 ** np.arange(0, 48, 0.25))).astype(np.int64)
"""Where bins of counts begin, a quarter of an octave wide, but for the first whole numbers."""

_PAIRS = ("text_high", "text_low", "image_high", "image_low")


def read_shard(run: Run, shard: Shard, _: Iterator[pa.RecordBatch], send: Send) -> dict[str, Any]:
    """Read a shard: write its rows' facts, and send its pairs and n-grams."""
    check_stamps(shard)
    damage: list[str] = []
    rows = 0
    with ipc_writer(facts_path(run, shard), FACTS) as sink:
        for part in read_rows(shard, damage):
            facts, words = spare(run, *measure_facts(run, shard, part))
            sink.write_batch(facts)
            pairs, partitions = _pairs(run, facts)
            send("pairs", pairs, partitions)
            counted = ngrams.count(words)
            send("ngrams", counted, run.partition(counted["hash"].to_numpy()))
            rows += len(facts)
    files = [
        {"path": path.name, "bytes": path.stat().st_size, "xxh3_128": file_digest(path)}
        for path in shard.files
    ]
    check_stamps(shard)
    facts_of_shard = {"rows": rows, "files": files, "damage": damage}
    return {"shards": {shard.name: shard.stored(run.source) | facts_of_shard}}


def merge_pairs(run: Run, _: int, received: Iterator[pa.RecordBatch], send: Send) -> dict[str, Any]:
    """Make pairs distinct; send on how many each text and each image has."""
    keys = _columns(received, _PAIRS)
    order = _order(*_pair_hashes(*keys))
    distinct = order[_changes(*(key[order] for key in keys))]
    text_high, text_low, image_high, image_low = (key[distinct] for key in keys)
    for channel, high, low in (
        ("texts", text_high, text_low),
        ("images", image_high, image_low),
    ):
        batch = _summed(high, low, np.ones(len(high), np.int64))
        send(channel, batch, run.partition(batch["high"].to_numpy()))
    return {}


def merge_counts(
    channel: str, run: Run, partition: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Add up each key's counts; keep the keys that occur more than once, sorted, for the lookup."""
    high, low, counts = _columns(received, ("high", "low", "count"))
    batch = _summed(high, low, counts.astype(np.int64))
    shared = batch.filter(pc.greater(batch["count"], 1))
    at = np.searchsorted(SHARING, batch["count"].to_numpy(), "right") - 1
    sharing = {str(SHARING[i]): int(n) for i, n in enumerate(np.bincount(at)) if n}
    with ipc_writer(run.work / "lookup" / channel / f"{partition:05d}.arrow", batch.schema) as sink:
        sink.write_batch(shared)
    counted = {"distinct": len(batch), "shared": len(shared)}
    return {"tables": {channel: counted}, "sharing": {channel: sharing}}


def hash128(texts: pa.StringArray) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the high and low halves of each text's 128-bit hash; that of null is arbitrary."""
    values = pc.fill_null(pc.cast(texts, pa.binary()), b"").to_pylist()
    digests = b"".join(map(xxhash.xxh3_128_digest, values))
    halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def _pairs(run: Run, facts: pa.RecordBatch) -> tuple[pa.RecordBatch, NDArray[np.uint16]]:
    """Return the distinct (text, image) pairs of a batch, and their partitions."""
    images = image_keys(facts)
    both = pc.and_(pc.is_valid(facts["text_key"]), pc.is_valid(images))
    keys = [*hash128(facts["text_key"].filter(both)), *hash128(images.filter(both))]
    batch = pa.record_batch(keys, names=list(_PAIRS))
    return batch, run.partition(_pair_hashes(*keys)[1])


def _pair_hashes(
    text_high: NDArray[np.uint64],
    text_low: NDArray[np.uint64],
    image_high: NDArray[np.uint64],
    image_low: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hash pairs; equal pairs have equal hashes, and a partition is some of the second's values."""
    return text_low ^ image_low, ngrams.bigram_hashes(text_high, image_high)


def _columns(received: Iterator[pa.RecordBatch], names: tuple[str, ...]) -> list[NDArray[Any]]:
    batches = list(received)
    if not batches:
        return [np.empty(0, np.uint64) for _ in names]
    table = pa.Table.from_batches(batches)
    return [table[name].to_numpy() for name in names]


def _order(second: NDArray[np.uint64], first: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return an order by the first number, then by the second, as `np.lexsort` does.

    Of hashes the first nearly always settles it, and single numbers sort four times as fast.
    """
    order = np.argsort(first)
    a, b = first[order], second[order]
    settled = (a[1:] != a[:-1]) | (b[1:] >= b[:-1])
    return order if settled.all() else np.lexsort((second, first))


def _changes(*sorted_keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Say where a row of sorted keys differs from the row before."""
    changed = np.zeros(len(sorted_keys[0]), bool)
    changed[:1] = True
    for key in sorted_keys:
        changed[1:] |= key[1:] != key[:-1]
    return changed


def _summed(
    high: NDArray[np.uint64], low: NDArray[np.uint64], counts: NDArray[np.int64]
) -> pa.RecordBatch:
    """Add up the counts of equal keys; sorted by key."""
    order = _order(low, high)
    high, low, counts = high[order], low[order], counts[order]
    starts = np.flatnonzero(_changes(high, low))
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    return pa.record_batch([high[starts], low[starts], sums], names=["high", "low", "count"])
