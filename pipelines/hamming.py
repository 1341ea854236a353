"""Find the nearest hash within a Hamming distance, exactly, in files that are mapped into memory.

A hash is cut into chunks.  Of two hashes at a distance up to r, at least one of the c chunks
differs in no more than r / c bits (the pigeonhole argument), so the hashes to compare with are
looked up by each chunk and by what few flipped bits make of it (multi-index hashing: Norouzi,
Punjani and Fleet, CVPR 2012).
"""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recaption.files import replacing

Words = NDArray[np.uint64]

_WORD_BITS = 64
_CHUNKS_PER_WORD = 4
_QUERIES_AT_ONCE = 1 << 12
_CANDIDATES_AT_ONCE = 1 << 20
_MANY = 200_000
"""So many single words are cut into three chunks: larger tables, and a tenth of the candidates."""


class Nearest(NamedTuple):
    """The nearest hash of each query."""

    at: NDArray[np.int64]
    """Its place in the index, the first one of equals; -1: there is none within the radius."""
    distance: NDArray[np.int64]
    """Bits that differ; radius + 1 where there is none."""


def write_index(path: Path, hashes: Words) -> None:
    """Write hashes, (n, words), as an index that `Index` reads."""
    rows, words = hashes.shape
    arrays: dict[str, NDArray[Any]] = {"hashes": hashes}
    for n, (word, low, width) in enumerate(_chunks(rows, words)):
        keys = _key(hashes[:, word], low, width)
        order = np.argsort(keys, kind="stable").astype(np.uint32)
        counts = np.bincount(keys, minlength=1 << width)
        arrays[f"order{n}"] = order
        arrays[f"starts{n}"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    for name, array in arrays.items():
        with replacing(path / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array)


class Index:
    """Hashes in an order by each of their chunks."""

    def __init__(self, path: Path) -> None:
        self.hashes: Words = np.load(path / "hashes.npy", mmap_mode="r")
        self._chunks = _chunks(*self.hashes.shape)
        self._tables = [
            tuple(np.load(path / f"{name}{n}.npy", mmap_mode="r") for name in ("order", "starts"))
            for n in range(len(self._chunks))
        ]

    def nearest(self, queries: Words, radius: int) -> Nearest:
        """Find the nearest hash of each query, (n, words), up to `radius` bits away."""
        some = range(0, max(1, len(queries)), _QUERIES_AT_ONCE)
        found = [self._nearest(queries[at : at + _QUERIES_AT_ONCE], radius) for at in some]
        return Nearest(*map(np.concatenate, zip(*found, strict=True)))

    def _nearest(self, queries: Words, radius: int) -> Nearest:
        nearest = Nearest(np.full(len(queries), -1), np.full(len(queries), radius + 1))
        for (word, low, width), (order, starts) in zip(self._chunks, self._tables, strict=True):
            keys = _key(queries[:, word], low, width)[:, None] ^ _flips(
                width, radius // len(self._chunks)
            )
            begins = starts[keys].astype(np.int64)
            counts = starts[keys + 1] - begins
            ends = np.cumsum(counts.sum(axis=1))
            first = 0
            while first < len(queries):  # a block of queries; alone, if it has many candidates
                before = ends[first - 1] if first else 0
                last = max(first + 1, int(np.searchsorted(ends, before + _CANDIDATES_AT_ONCE)))
                block = slice(first, last)
                candidates = order[ranges(begins[block].ravel(), counts[block].ravel())]
                asked = np.repeat(np.arange(first, last), counts[block].sum(axis=1))
                self._compare(queries, asked, candidates.astype(np.int64), nearest)
                first = last
        return nearest

    def _compare(
        self, queries: Words, asked: NDArray[np.int64], at: NDArray[np.int64], nearest: Nearest
    ) -> None:
        """Note the candidates that are nearer than what was found so far."""
        apart = np.zeros(len(at), np.int64)
        for word in range(self.hashes.shape[1]):  # most candidates are refused by the first one
            apart = apart + np.bitwise_count(self.hashes[at, word] ^ queries[asked, word])
            near = apart <= nearest.distance[asked]
            asked, at, apart = asked[near], at[near], apart[near]
        order = np.lexsort((at, apart, asked))
        asked, at, apart = asked[order], at[order], apart[order]
        best = np.ones(len(asked), bool)
        best[1:] = asked[1:] != asked[:-1]
        asked, at, apart = asked[best], at[best], apart[best]
        known = nearest.at[asked]
        closer = apart < nearest.distance[asked]
        closer |= (apart == nearest.distance[asked]) & (known >= 0) & (at < known)
        nearest.at[asked[closer]] = at[closer]
        nearest.distance[asked[closer]] = apart[closer]


def _chunks(rows: int, words: int) -> list[tuple[int, int, int]]:
    """Return the word, the lowest bit and the width of each chunk."""
    per_word = 3 if words == 1 and rows > _MANY else _CHUNKS_PER_WORD
    bounds = [_WORD_BITS * n // per_word for n in range(per_word + 1)]
    cuts = [(low, high - low) for low, high in pairwise(bounds)]
    return [(word, low, width) for word in range(words) for low, width in cuts]


def _key(words: Words, low: int, width: int) -> NDArray[np.int64]:
    return (words >> np.uint64(low) & np.uint64((1 << width) - 1)).astype(np.int64)


def _flips(width: int, most: int) -> NDArray[np.int64]:
    """Return all numbers of `width` bits of which at most `most` are set."""
    chosen = (bits for count in range(most + 1) for bits in combinations(range(width), count))
    return np.array([sum(1 << bit for bit in bits) for bits in chosen])


def ranges(begins: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of all ranges, one after the other."""
    shift = begins - np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.arange(counts.sum()) + np.repeat(shift, counts)
