"""Look up the corpus-wide counts: sorted arrays in files that a machine maps into memory once.

`tables/lookup/ngrams.hashes.npy` and `.ranks.npy` hold 12 bytes per n-gram, sorted by hash;
`texts.*.npy` and `images.*.npy` hold the keys that occur more than once; `digests.json` the xxh3 of
each file, which its copies must have.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import ngrams
from pipelines.exchange import Run, Send
from pipelines.storage import join_parts, read_ipc
from recaption.files import write_json
from recaption.stores import shared

_KEYS = {"high": "u8", "low": "u8", "count": "i8"}
FILES = {"texts": _KEYS, "images": _KEYS, "ngrams": {"hashes": "u8", "ranks": "u4"}}
"""The arrays of each lookup, with their types."""

_SEARCHED_AT_ONCE = 8192
DIGESTS = "digests.json"


def write_lookups(run: Run, _: int, __: Iterator[pa.RecordBatch], ___: Send) -> dict[str, Any]:
    """Join the partitions' sorted parts, which are in the order of the hashes."""
    digests: dict[str, str] = {}
    for channel in ("texts", "images"):
        for name, kind in FILES[channel].items():
            digests |= _join(run, f"{channel}.{name}", kind, partial(_counts, run, channel, name))
    for name, kind in FILES["ngrams"].items():
        digests |= _join(run, f"ngrams.{name}", kind, partial(_ranks, run, name))
    write_json(lookup_folder(run.output) / DIGESTS, digests)
    return {}


def _join(run: Run, name: str, kind: str, part: Callable[[int], Any]) -> dict[str, str]:
    path = lookup_path(run.output, name)
    parts = [partial(part, at) for at in range(run.partitions)]
    return {path.name: join_parts(path, np.dtype(kind), parts).xxh3_128}


def counts(
    output: Path, channel: str, high: ngrams.Hashes, low: ngrams.Hashes
) -> NDArray[np.int64]:
    """Look up how many images a text has, or texts an image; those not stored have one."""
    highs, lows, stored = _load(output, *(f"{channel}.{n}" for n in ("high", "low", "count")))
    found = np.ones(len(high), np.int64)
    if not len(highs):
        return found
    order = np.argsort(high)
    at = np.empty(len(high), np.int64)
    at[order] = np.searchsorted(highs, high[order])
    pending = np.arange(len(high))
    while len(pending):  # once, but for keys of which half the hash is equal
        places = at[pending]
        inside = places < len(highs)
        pending, places = pending[inside], places[inside]
        same = highs[places] == high[pending]
        pending, places = pending[same], places[same]
        hit = lows[places] == low[pending]
        found[pending[hit]] = stored[places[hit]]
        pending = pending[~hit]
        at[pending] += 1
    return found


def rarest_ranks(output: Path, token_hashes: pa.ListArray, absent: int) -> pa.Int64Array:
    """Return the rank of each caption's rarest n-gram; null where there is no token.

    Args:
        output: The run's folder.
        token_hashes: Each caption's tokens, hashed.
        absent: The rank of n-grams that are not in the table.
    """
    lengths = pc.fill_null(pc.list_value_length(token_hashes), 0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    hashes = token_hashes.flatten().to_numpy()
    if not len(hashes):
        return pa.nulls(len(token_hashes), pa.int64())
    inner = np.ones(len(hashes), bool)
    inner[ends[lengths > 0] - 1] = False  # the last token of a caption begins no bigram
    left = np.flatnonzero(inner)
    rarer = hashes.copy()  # than the token itself is a bigram that begins with it
    rarer[left] = ngrams.bigram_hashes(hashes[left], hashes[left + 1])
    ranks = ngram_ranks(output, rarer, absent)
    filled = lengths > 0
    rarest = np.zeros(len(token_hashes), np.int64)
    rarest[filled] = np.maximum.reduceat(ranks, (ends - lengths)[filled])
    return pa.array(rarest, mask=~filled)


def ngram_ranks(output: Path, hashes: ngrams.Hashes, absent: int) -> NDArray[np.int64]:
    """Look up the ranks of n-grams by their hashes."""
    table, ranks = _load(output, "ngrams.hashes", "ngrams.ranks")
    if not len(table):
        return np.full(len(hashes), absent, np.int64)
    order = np.argsort(hashes)  # neighbours in the table are looked up one after the other
    wanted = hashes[order]
    at = np.minimum(_search(table, wanted), len(table) - 1)
    found = np.empty(len(hashes), np.int64)
    found[order] = np.where(table[at] == wanted, ranks[at], absent)
    return found


def _search(table: ngrams.Hashes, wanted: ngrams.Hashes) -> NDArray[np.int64]:
    """Return `np.searchsorted(table, wanted)` of sorted numbers, in half the time.

    Some are looked for at a time, in the part of the table that they lie in: it fits in a cache.
    """
    found = np.empty(len(wanted), np.int64)
    starts = np.searchsorted(table, wanted[::_SEARCHED_AT_ONCE])
    for n, (start, end) in enumerate(pairwise([*starts, len(table)])):
        some = slice(n * _SEARCHED_AT_ONCE, (n + 1) * _SEARCHED_AT_ONCE)
        found[some] = start + np.searchsorted(table[start:end], wanted[some])
    return found


def _load(output: Path, *names: str) -> tuple[NDArray[Any], ...]:
    digests = lookup_folder(output) / DIGESTS
    paths = (shared(lookup_path(output, name), digests) for name in names)
    return tuple(np.load(path, mmap_mode="r") for path in paths)


def lookup_path(output: Path, name: str) -> Path:
    """Return where an array is, such as `ngrams.ranks`."""
    return lookup_folder(output) / f"{name}.npy"


def lookup_folder(output: Path) -> Path:
    """Return where the arrays are."""
    return output / "tables" / "lookup"


def _counts(run: Run, channel: str, name: str, partition: int) -> NDArray[Any]:
    path = run.work / "lookup" / channel / f"{partition:05d}.arrow"
    return np.concatenate([batch[name].to_numpy() for batch in read_ipc(path)])


def _ranks(run: Run, name: str, partition: int) -> NDArray[Any]:
    return np.load(run.work / "lookup" / "ngrams" / f"{partition:05d}.npz")[name]
