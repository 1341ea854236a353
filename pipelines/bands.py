"""Cut hashes into bands, so that near ones are always alike in one of them.

A hash is some 64-bit words.  Of two hashes at most k bits apart, one of W words is at most k // W
apart; and if a word is cut into chunks with radii r, of which the r + 1 add up to the word's k + 1,
then one chunk is at most its radius apart (the pigeonhole principle, in the general form of Qin et
al., "GPH: Similarity search in Hamming space", ICDE 2018).
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_WORD_BITS = 64
_BUCKET = 64
"""Hashes in a bucket; fewer cost more by the calls, more cost more by the pairs."""
_ROWS = 1 << 14
"""Hashes whose bits are spread out at once."""


class Band(NamedTuple):
    """A chunk of a word, by which hashes are put into buckets."""

    word: int
    low: int
    """The chunk's lowest bit."""
    chunk: int
    """Bits in the chunk."""
    width: int
    """Bits of the chunk, the lowest ones, that are the key."""
    radius: int

    def keys(self, column: Words) -> NDArray[np.int64]:
        """Return the keys of words."""
        mask = np.uint64((1 << self.width) - 1)
        return (column >> np.uint64(self.low) & mask).astype(np.int64)


def plan_bands(hashes: int, bits: int, most: int) -> list[Band]:
    """Choose the bands with the least work.

    Args:
        hashes: How many distinct hashes there are.
        bits: Of a hash.
        most: Bits in which near hashes may differ.
    """
    words = -(-bits // _WORD_BITS)
    width = max(0, (hashes // _BUCKET).bit_length() - 1)
    bands = []
    for word in range(words):
        size = min(_WORD_BITS, bits - word * _WORD_BITS)
        budget = min(most // words, size)
        cuts = [_cut(word, size, n, budget, width) for n in range(1, min(size, budget + 1) + 1)]
        bands += min(cuts, key=lambda cut: sum(_work(hashes, band) for band in cut))
    return bands


def _cut(word: int, bits: int, chunks: int, budget: int, width: int) -> list[Band]:
    """Cut a word into chunks, of which one is within its radius if the word is within `budget`."""
    bounds = [bits * n // chunks for n in range(chunks + 1)]
    sizes = [bounds[n + 1] - bounds[n] for n in range(chunks)]
    return [
        Band(word, bounds[n], size, min(size, width), (budget + 1 + n) // chunks - 1)
        for n, size in enumerate(sizes)
    ]


def _work(hashes: int, band: Band) -> float:
    """Return about how many pairs a band compares; a bucket costs as much as some more."""
    near = sum(comb(band.width, n) for n in range(min(band.width, band.radius) + 1))
    return near * hashes * (hashes / 2**band.width + 1)


def flips(width: int, most: int) -> NDArray[np.int64]:
    """Return all numbers of `width` bits of which at most `most` are set."""
    counts = range(min(width, most) + 1)
    chosen = (bits for count in counts for bits in combinations(range(width), count))
    return np.array([sum(1 << bit for bit in bits) for bits in chosen])


def count_bits(words: Words) -> NDArray[np.int64]:
    """Return how many of some hashes have each bit set."""
    total = np.zeros(words.shape[1] * _WORD_BITS, np.int64)
    for at in range(0, len(words), _ROWS):
        total += _spread(words[at : at + _ROWS]).sum(axis=0, dtype=np.int64)
    return total


def deal_bits(ones: NDArray[np.int64], hashes: int, bands: list[Band]) -> NDArray[np.int64]:
    """Deal the bits that vary to the chunks, those that tell hashes apart best first.

    Args:
        ones: In how many hashes each bit is set.
        hashes: How many there are.
        bands: From `plan_bands`, for as many bits as vary.

    Returns:
        For each bit of the new words the old one that it is.
    """
    order = np.argsort(np.abs(2 * ones - hashes), kind="stable")
    slots = sorted(
        (n, at, band.word * _WORD_BITS + band.low + n)
        for at, band in enumerate(bands)
        for n in range(band.chunk)
    )
    dealt = np.empty(len(slots), np.int64)
    dealt[[slot for _, _, slot in slots]] = order[: len(slots)]
    return dealt


def rearrange(words: Words, dealt: NDArray[np.int64]) -> Words:
    """Return hashes made of the bits that were dealt."""
    new = np.zeros((len(words), -(-len(dealt) // _WORD_BITS)), np.uint64)
    for at in range(0, len(words), _ROWS):
        some = np.packbits(_spread(words[at : at + _ROWS])[:, dealt], axis=1, bitorder="little")
        new[at : at + _ROWS].view(np.uint8)[:, : some.shape[1]] = some
    return new


def _spread(words: Words) -> NDArray[np.uint8]:
    bytes_ = np.ascontiguousarray(words).view(np.uint8)
    return np.unpackbits(bytes_, axis=1, bitorder="little")


def pairs(band: Band, column: Words) -> int:
    """Return how many pairs a band has to compare."""
    counts = np.bincount(band.keys(column), minlength=1 << band.width)
    keys = np.arange(1 << band.width)
    masks = flips(band.width, band.radius)
    return sum(
        int(counts @ np.where(keys ^ mask >= keys, counts[keys ^ mask], 0)) for mask in masks
    )
