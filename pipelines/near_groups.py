"""Find the groups of near hashes in a corpus: in parts, by what any machine holds in memory.

Distinct hashes are numbered in an order of their own, in which they lie in files that are mapped
into memory.  For each band (see `near`) they are sent to slices of its keys, and each slice is
compared with itself and with those that a few flipped bits lead to; the links that are left of it
are joined in one pass over a mapped file of 8 bytes per hash, so it always ends, and exactly.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.duplicate import Duplicate
from pipelines import ngrams
from pipelines.bands import Band, Words, count_bits, deal_bits, flips, plan_bands, rearrange
from pipelines.exchange import Run, Send
from pipelines.forest import Forest, Places, join_all
from pipelines.hashes import BITS
from pipelines.near import Search
from pipelines.storage import join_parts
from recaption.files import replacing

_ROWS_AT_ONCE = 1 << 18


def rule_of(run: Run) -> Duplicate:
    """Return the rule on duplicates; tasks that look for them run only where there is one."""
    rule = run.recipe.duplicate
    if rule is None:
        raise TypeError("the recipe has no rule on duplicates")
    return rule


def send_hashes(run: Run, words: Words, send: Send) -> None:
    """Send the distinct hashes of a batch."""
    distinct = np.unique(words, axis=0)
    names = [f"word{n}" for n in range(words.shape[1])]
    batch = pa.record_batch([*np.ascontiguousarray(distinct.T)], names=names)
    send("hashes", batch, run.partition(mix(distinct)))


def merge_hashes(
    run: Run, partition: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Keep each hash of a partition once, in their order."""
    parts = [np.stack([column.to_numpy() for column in batch.columns], 1) for batch in received]
    words = np.concatenate([np.empty((0, _num_words(run)), np.uint64), *parts])
    mixed = mix(words)
    order = np.lexsort((*words.T[::-1], mixed))
    words, mixed = words[order], mixed[order]
    new = np.ones(len(words), bool)
    new[1:] = (words[1:] != words[:-1]).any(axis=1)
    words = words[new]
    _save(_part(run, partition), words=words, mixed=mixed[new], ones=count_bits(words))
    return {"duplicates": {"hashes": len(words)}}


def join_hashes(run: Run, _: int, __: Iterator[pa.RecordBatch], ___: Send) -> dict[str, Any]:
    """Join the partitions' hashes, their bits in the order that serves the bands."""
    parts = [functools.partial(_load, _part(run, at)) for at in range(run.partitions)]
    mixed = [lambda part=part: part()["mixed"] for part in parts]
    count = join_parts(_file(run, "mixed"), np.dtype("u8"), mixed).rows
    bands = _bands(run, count)
    ones = np.sum([part()["ones"] for part in parts], axis=0)
    dealt = deal_bits(ones, count, bands)
    kind = np.dtype(("u8", (_num_words(run),)))
    words = [lambda part=part: rearrange(part()["words"], dealt) for part in parts]
    flat = [lambda part=part: part().ravel() for part in words]
    join_parts(_file(run, "words"), kind.base, flat)
    _save_array(_file(run, "dealt"), dealt)
    return {}


def send_bands(
    run: Run, partition: int, received: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Send each hash of a partition to its slice of each band."""
    del received
    words = _words(run)
    bounds = run.partition(np.load(_file(run, "mixed"), mmap_mode="r"))
    first, last = np.searchsorted(bounds, [partition, partition + 1])
    for number, band in enumerate(_bands(run, len(words))):
        for at in range(first, last, _ROWS_AT_ONCE):
            stop = min(last, at + _ROWS_AT_ONCE)
            column = np.ascontiguousarray(words[at:stop, band.word])
            columns = [np.full(stop - at, number, np.uint8), np.arange(at, stop), column]
            batch = pa.record_batch(columns, names=["band", "hash", "word"])
            send("bands", batch, band.keys(column) >> _below(run, band))
    return {}


def sort_bands(
    run: Run, slice_: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Sort a slice of each band by key."""
    table = pa.Table.from_batches(list(received), _BANDED)
    number, hashes, column = (table[name].to_numpy() for name in _BANDED.names)
    for at, band in enumerate(_bands(run, len(_words(run)))):
        here = np.flatnonzero(number == at)
        order = here[np.lexsort((hashes[here], band.keys(column[here])))]
        _save(_slice(run, at, slice_), hashes=hashes[order], column=column[order])
    return {}


def link_slice(
    run: Run, slice_: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Link the hashes of a slice of each band to all that are near."""
    del received
    words = _words(run)
    links = [_link_band(run, words, at, slice_) for at in range(len(_bands(run, len(words))))]
    left, right = map(np.concatenate, zip(*links, strict=True))
    things, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    forest = Forest(len(things))
    forest.link(*np.split(ends, 2))
    forest.settle()
    linked = np.flatnonzero(forest.labels != np.arange(len(things)))
    _save(_links(run, slice_), left=things[linked], right=things[forest.labels[linked]])
    return {}


def _link_band(run: Run, words: Words, number: int, slice_: int) -> tuple[Places, Places]:
    band, most = _bands(run, len(words))[number], rule_of(run).max_distance
    below = _below(run, band)
    if slice_ << below >= 1 << band.width:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    others = np.unique(slice_ ^ flips(band.width, band.radius) >> below)
    parts = [_load(_slice(run, number, at)) for at in others[others >= slice_].tolist()]
    hashes = np.concatenate([part["hashes"] for part in parts])
    column = np.concatenate([part["column"] for part in parts])
    search = Search(band, column, lambda places: words[hashes[places]], most)
    forest = Forest(len(hashes))
    search.link(forest, slice_ << below, (slice_ + 1) << below)
    forest.settle()
    linked = np.flatnonzero(forest.labels != np.arange(len(hashes)))
    return hashes[linked], hashes[forest.labels[linked]]


def join_groups(run: Run, _: int, __: Iterator[pa.RecordBatch], ___: Send) -> dict[str, Any]:
    """Number each hash's group: by the first of its hashes, in their order."""
    hashes = len(_words(run))
    with replacing(_file(run, "groups")) as temporary:
        groups = np.lib.format.open_memmap(temporary, "w+", np.int64, (hashes,))
        for at in range(0, hashes, _ROWS_AT_ONCE):
            stop = min(hashes, at + _ROWS_AT_ONCE)
            groups[at:stop] = np.arange(at, stop)
        parts = (_load(_links(run, at)) for at in range(run.partitions))
        join_all(groups, ((part["left"], part["right"]) for part in parts))
        groups.flush()
    return {}


def groups_of(run: Run, words: Words) -> Places:
    """Return the group of each of some hashes, which must be among those that were sent."""
    mixed = np.load(_file(run, "mixed"), mmap_mode="r")
    wanted = rearrange(words, np.load(_file(run, "dealt")))
    known = _words(run)
    at = np.searchsorted(mixed, mix(words))
    pending = np.arange(len(words))
    while len(pending):  # once, but for hashes that are mixed to the same number
        pending = pending[(known[at[pending]] != wanted[pending]).any(axis=1)]
        at[pending] += 1
    return np.asarray(np.load(_file(run, "groups"), mmap_mode="r")[at])


def mix(words: Words) -> Words:
    """Return numbers by which hashes are spread evenly, and the same for the same hash."""
    columns = list(words.T)
    if len(columns) == 1:
        columns.append(np.zeros(len(words), np.uint64))
    return functools.reduce(ngrams.bigram_hashes, columns)


_BANDED = pa.schema([("band", pa.uint8()), ("hash", pa.int64()), ("word", pa.uint64())])


def _bands(run: Run, hashes: int) -> list[Band]:
    rule = rule_of(run)
    return plan_bands(hashes, BITS[rule.hash], rule.max_distance)


def _below(run: Run, band: Band) -> int:
    """Return how many of a key's bits are below those of its slice."""
    return max(0, band.width - (run.partitions.bit_length() - 1))


def _num_words(run: Run) -> int:
    return BITS[rule_of(run).hash] // 64


def _words(run: Run) -> Words:
    return np.load(_file(run, "words"), mmap_mode="r").reshape(-1, _num_words(run))


def _file(run: Run, name: str) -> Path:
    return run.work / "near" / f"{name}.npy"


def _part(run: Run, partition: int) -> Path:
    return run.work / "near" / "hashes" / f"{partition:05d}.npz"


def _slice(run: Run, band: int, slice_: int) -> Path:
    return run.work / "near" / "bands" / f"{band:03d}" / f"{slice_:05d}.npz"


def _links(run: Run, slice_: int) -> Path:
    return run.work / "near" / "links" / f"{slice_:05d}.npz"


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as stored:
        return dict(stored)


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _save_array(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
