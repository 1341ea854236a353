"""Find the copies in a corpus: group the rows that all other rules keep, and choose who stays.

A group is known by a key of 128 bits, made of its image's digest or URL, or of the group of its
hash (see `near_groups`), and of its text's where that counts.  Each batch sends its best row per
key to the key's partition, which keeps the best of all; those with copies are looked up by key.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from filters.decision import judge
from filters.text import normalise, text_keys
from pipelines import ngrams
from pipelines.count import hash128
from pipelines.exchange import Run, Send
from pipelines.facts import image_keys
from pipelines.hashes import BITS, MIN_QUALITY, packed
from pipelines.inputs import Shard
from pipelines.measure import columns_path
from pipelines.near_groups import groups_of, rule_of, send_hashes
from pipelines.schema import PLACES
from pipelines.storage import ipc_writer, join_parts, read_ipc
from recaption.files import replacing

BATCH_ROWS = 131_072

_KEYS = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("known", pa.bool_())])
_COPIES = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("rows", pa.int64()),
        ("worth", pa.float64()),
        ("uid_high", pa.uint64()),
        ("uid_low", pa.uint64()),
        ("shard", pa.string()),
        ("row", pa.int64()),
    ]
)
"""The best row of a group in a batch, and how many there are."""

_STORED = {"high": "u8", "low": "u8", "uid_high": "u8", "uid_low": "u8", "shard": "u8", "row": "i8"}
"""What is looked up: a group, and the uid and the place of the pair that stays."""

_TAG = np.uint64(0x6E656172)


def send_hashes_of_shard(
    run: Run, shard: Shard, _: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Send the distinct hashes of a shard's rows that all other rules keep."""
    for columns in _read(run, shard):
        words = _hashes(run, columns.filter(_survive(run, columns)))[1]
        if len(words):
            send_hashes(run, words, send)
    return {}


def group_shard(run: Run, shard: Shard, _: Iterator[pa.RecordBatch], send: Send) -> dict[str, Any]:
    """Write the keys of a shard's rows, and send the best row of each group."""
    row, flat, unhashed = 0, 0, 0
    with ipc_writer(_keys_path(run, shard), _KEYS) as sink:
        for columns in _read(run, shard):
            survive = _survive(run, columns)
            keys = _keys(run, columns, survive)
            sink.write_batch(keys)
            at = np.flatnonzero(keys["known"].to_numpy(zero_copy_only=False))
            best = _best(_copies(run, columns, keys, shard.name, row).take(pa.array(at)))
            send("copies", best, run.partition(best["high"].to_numpy()))
            if rule_of(run).near:
                quality = columns.filter(survive)["pdq_quality"]
                flat += pc.sum(pc.less(quality, MIN_QUALITY), min_count=0).as_py()
                unhashed += quality.null_count
            row += len(columns)
    return {"duplicates": {"flat": flat, "unhashed": unhashed}}


def keep_best(
    run: Run, partition: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Choose the pair that stays of each group of a partition; keep the groups with copies."""
    best = _best(pa.Table.from_batches(list(received), _COPIES).combine_chunks())
    copied = best.filter(pc.greater(best["rows"], 1))
    arrays = {name: copied[name].to_numpy() for name in _STORED if name != "shard"}
    arrays["shard"] = _hashed(copied["shard"])
    with replacing(_part(run, partition)) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    rows = pc.sum(copied["rows"], min_count=0).as_py()
    return {"duplicates": {"groups": len(copied), "copies": rows - len(copied)}}


def join_kept(run: Run, _: int, __: Iterator[pa.RecordBatch], ___: Send) -> dict[str, Any]:
    """Join the partitions' groups, which are in the order of their keys."""
    for name, kind in _STORED.items():
        parts = [partial(_stored, run, name, at) for at in range(run.partitions)]
        join_parts(_file(run, name), np.dtype(kind), parts)
    return {}


class Found:
    """The copies among a shard's rows, batch by batch."""

    def __init__(self, run: Run, shard: Shard) -> None:
        self._keys = read_ipc(_keys_path(run, shard))
        self._table = {n: np.load(_file(run, n), mmap_mode="r") for n in _STORED}
        self._shard = _hashed(pa.array([shard.name]))[0]
        self._row = 0

    def next(self) -> pa.RecordBatch:
        """Return the next batch's rows.

        Columns: `high` and `low`, the group; `stays`, whether it is the pair that stays of a group
        with copies; and `PLACES`, the one that stays in a row's place.
        """
        keys = next(self._keys)
        known = np.flatnonzero(keys["known"].to_numpy(zero_copy_only=False))
        high, low = (keys[name].to_numpy() for name in ("high", "low"))
        found = self._find(high[known], low[known])
        at, known = found[found >= 0], known[found >= 0]
        rows = np.asarray(self._table["row"][at]), np.asarray(self._table["shard"][at])
        own = (rows[0] == known + self._row) & (rows[1] == self._shard)
        self._row += len(keys)
        stays = np.zeros(len(keys), bool)
        stays[known[own]] = True
        is_copy = np.isin(np.arange(len(keys)), known[~own])
        where = pa.array(np.cumsum(is_copy) - 1, mask=~is_copy)
        other = (self._uids(at[~own]), rows[1][~own], rows[0][~own])
        columns = [
            pa.array(values, kind).take(where)
            for values, kind in zip(other, PLACES.values(), strict=True)
        ]
        names = ["high", "low", "stays", *PLACES]
        return pa.record_batch([high, low, stays, *columns], names=names)

    def _find(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the places of keys in the table; -1: it is not there."""
        highs, lows = self._table["high"], self._table["low"]
        at = np.searchsorted(highs, high)
        found = np.full(len(high), -1)
        pending = np.arange(len(high))
        while len(pending):  # once, but for keys of which half is equal
            pending = pending[at[pending] < len(highs)]
            pending = pending[highs[at[pending]] == high[pending]]
            hit = lows[at[pending]] == low[pending]
            found[pending[hit]] = at[pending[hit]]
            pending = pending[~hit]
            at[pending] += 1
        return found

    def _uids(self, at: NDArray[np.int64]) -> list[str]:
        halves = np.stack([self._table["uid_high"][at], self._table["uid_low"][at]], 1)
        text = halves.astype(">u8").tobytes().hex()
        return [text[n : n + 32] for n in range(0, len(text), 32)]


def notes_on(found: dict[str, int]) -> list[str]:
    """Say what a reader should know of the account of a run's duplicates."""
    notes = []
    if found.get("flat"):
        notes.append(
            f"Too flat for hashes (PDQ quality below {MIN_QUALITY}) are {found['flat']:,} of the "
            "images left: only those of the same bytes or URL count as duplicates of them."
        )
    if found.get("unhashed"):
        notes.append(
            f"{found['unhashed']:,} rows have no hash, because they were measured by a recipe that "
            "drops them: only those of the same bytes or URL count as duplicates of them."
        )
    return notes


def uid_halves(uids: pa.StringArray) -> NDArray[np.uint64]:
    """Return uids of 32 hexadecimal digits as two numbers each, (n, 2)."""
    raw = bytes.fromhex("".join(uids.to_pylist()))
    return np.frombuffer(raw, ">u8").astype(np.uint64).reshape(-1, 2)


def _read(run: Run, shard: Shard) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(columns_path(run.measured, shard.name)) as source:
        yield from source.iter_batches(BATCH_ROWS)


def _survive(run: Run, columns: pa.RecordBatch) -> pa.BooleanArray:
    return pc.is_null(judge(columns, run.recipe.row_rules)["reason"])


def _hashes(run: Run, columns: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return which rows have a hash that says something, and those hashes as words."""
    name = rule_of(run).hash
    told = pc.and_(
        pc.is_valid(columns[name]), pc.greater_equal(columns["pdq_quality"], MIN_QUALITY)
    )
    at = np.flatnonzero(pc.fill_null(told, False).to_numpy(zero_copy_only=False))
    return at, packed(columns[name].take(pa.array(at)).to_pylist(), BITS[name])


def _keys(run: Run, columns: pa.RecordBatch, survive: pa.BooleanArray) -> pa.RecordBatch:
    """Return the key of each row's group; known of rows that survive and have an image."""
    rule = rule_of(run)
    images = image_keys(columns)
    high, low = (half.copy() for half in hash128(images))
    known = pc.and_(survive, pc.is_valid(images)).to_numpy(zero_copy_only=False)
    if rule.near:
        at = np.flatnonzero(survive.to_numpy(zero_copy_only=False))
        inside, words = _hashes(run, columns.filter(survive))
        at = at[inside]
        group = _groups(run, words)
        high[at], low[at] = group
    if rule.of_pairs:
        texts = text_keys(normalise(columns["caption"]))
        of_texts = hash128(texts)
        high, low = (
            ngrams.bigram_hashes(*both) for both in zip((high, low), of_texts, strict=True)
        )
    return pa.record_batch([high, low, known], schema=_KEYS)


def _groups(run: Run, words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return numbers that near hashes share."""
    if rule_of(run).max_distance and len(words):
        words = groups_of(run, words).astype(np.uint64)[:, None]
    high = low = np.full(len(words), _TAG)
    for word in words.T:
        high, low = ngrams.bigram_hashes(high, word), ngrams.bigram_hashes(word, low)
    return high, low


def _copies(
    run: Run, columns: pa.RecordBatch, keys: pa.RecordBatch, shard: str, row: int
) -> pa.RecordBatch:
    rows, uids = len(columns), uid_halves(columns["uid"])
    worth = np.zeros(rows)
    keep = rule_of(run).keep
    if keep != "first":
        sides = [pc.cast(columns[side], pa.float64()) for side in ("width", "height")]
        chosen = columns["clip_score"] if keep == "best_score" else pc.multiply(*sides)
        worth = pc.fill_null(chosen, -np.inf).to_numpy(zero_copy_only=False)
    return pa.record_batch(
        [
            keys["high"],
            keys["low"],
            np.ones(rows, np.int64),
            worth,
            uids[:, 0],
            uids[:, 1],
            pa.repeat(shard, rows),
            np.arange(row, row + rows),
        ],
        schema=_COPIES,
    )


def _best(copies: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
    """Keep the best row of each group; sorted by key."""
    names = pc.rank(pc.cast(copies["shard"], pa.binary()), tiebreaker="dense").to_numpy()
    high, low, worth, uid_high, uid_low, row = (
        copies[name].to_numpy() for name in ("high", "low", "worth", "uid_high", "uid_low", "row")
    )
    order = np.lexsort((row, names, uid_low, uid_high, -worth, low, high))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    starts = np.flatnonzero(new)
    rows = copies["rows"].to_numpy()[order]
    sums = np.add.reduceat(rows, starts) if len(starts) else rows
    best = copies.take(pa.array(order[starts]))
    return best.set_column(best.schema.get_field_index("rows"), "rows", pa.array(sums))


def _hashed(names: pa.StringArray) -> NDArray[np.uint64]:
    numbers = {
        name: xxhash.xxh3_64_intdigest(name.encode()) for name in pc.unique(names).to_pylist()
    }
    return np.array([numbers[name] for name in names.to_pylist()], np.uint64)


def _stored(run: Run, name: str, partition: int) -> NDArray[Any]:
    with np.load(_part(run, partition)) as stored:
        return stored[name]


def _keys_path(run: Run, shard: Shard) -> Path:
    return run.work / "duplicates" / "keys" / f"{shard.name}.arrow"


def _part(run: Run, partition: int) -> Path:
    return run.work / "duplicates" / "kept" / f"{partition:05d}.npz"


def _file(run: Run, name: str) -> Path:
    return run.work / "duplicates" / f"{name}.npy"
