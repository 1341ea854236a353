"""Find which hashes lie near one another, exactly, without comparing all of them with all.

Hashes are put into buckets by each of some bands (see `bands`), and only buckets whose keys are at
most the band's radius apart are compared, as a matrix.

Only groups are wanted, not pairs.  That keeps a crowd, hashes by the hundred thousand that share a
chunk, from becoming all its pairs: where some members are linked to nearly all, only the others are
compared on; and otherwise the crowd is put into buckets anew, by the bits that tell its members
apart.
"""

from collections.abc import Callable

import numpy as np

from pipelines.bands import Band, Words, count_bits, deal_bits, flips, pairs, plan_bands, rearrange
from pipelines.forest import Forest, Places
from pipelines.hamming import ranges

_BLOCK = 1 << 15
"""Pairs that are compared at once: what a core's cache holds."""
_TILE = (32, 1024)
"""The same, of pairs of whole hashes."""
_CROWD = 1 << 27
"""Pairs of a bucket with its neighbours from which on it is a crowd."""
_DENSE = 1 << 16
"""Near pairs of a bucket from which on it is one, too."""
_SAMPLE = 64
"""Members of a crowd that are compared with all others first, and again of those not linked."""
_PROGRESS = 0.95
"""That goes on while it leaves no more than this share of them."""
_DEPTH = 4
"""Crowds within crowds at most; deeper ones are compared as they are."""


class Search:
    """Hashes in the order of their keys in a band, to be linked to those that are near."""

    def __init__(
        self, band: Band, column: Words, words: Callable[[Places], Words], most: int, depth: int = 0
    ) -> None:
        """Take hashes.

        Args:
            band: The band.
            column: The band's word of each hash, in the order of their keys.
            words: Returns the whole hashes at some places, (n, words).
            most: Bits in which near hashes may differ.
            depth: The crowds that all this is within.
        """
        self._band, self._column, self._words = band, column, words
        self._most, self._depth = most, depth
        self._num_words = words(np.empty(0, np.int64)).shape[1]
        self._keys = band.keys(column)
        self._starts = np.searchsorted(self._keys, np.arange((1 << band.width) + 1))

    def link(self, forest: Forest, first: int, last: int) -> None:
        """Link the hashes whose keys are from `first` to before `last` to all that are near.

        Smaller keys are passed over: who looks from there finds these.
        """
        masks = flips(self._band.width, self._band.radius)
        inside = self._keys[self._starts[first] : self._starts[last]]
        for key in inside[np.append(True, inside[1:] != inside[:-1])[: len(inside)]].tolist():
            near = key ^ masks
            near = near[near >= key]
            begins = self._starts[near]
            others = ranges(begins, self._starts[near + 1] - begins)
            self._link_bucket(forest, slice(self._starts[key], self._starts[key + 1]), others)

    def _link_bucket(self, forest: Forest, rows: slice, others: Places) -> None:
        if (rows.stop - rows.start) * len(others) > _CROWD:
            self._link_crowd(forest, rows, others)
            return
        column, limit, found = self._column[others], self._most // self._num_words, 0
        size = max(1, _BLOCK // len(others))
        for at in range(rows.start, rows.stop, size):
            block = self._column[at : min(rows.stop, at + size)]
            hits = np.flatnonzero(np.bitwise_count(block[:, None] ^ column) <= limit)
            if len(hits) == len(block):  # each with itself
                continue
            left, right = at + hits // len(others), others[hits % len(others)]
            self._link_pairs(forest, left[left < right], right[left < right])
            found += len(hits)
            if found > _DENSE:
                self._link_crowd(forest, slice(at + size, rows.stop), others)
                return

    def _link_pairs(self, forest: Forest, left: Places, right: Places) -> None:
        if self._num_words > 1:
            apart = np.bitwise_count(self._words(left) ^ self._words(right))
            near = apart.sum(axis=1, dtype=np.int64) <= self._most
            left, right = left[near], right[near]
        forest.link(left, right)

    def _link_crowd(self, forest: Forest, rows: slice, others: Places) -> None:
        """Link a bucket to others, which begin with the bucket itself."""
        forest.settle()
        first, known = np.unique(forest.labels[others], return_index=True, return_inverse=True)[1:]
        if len(first) > 1:
            asked = np.flatnonzero((others >= rows.start) & (others < rows.stop))
            crowd = Crowd(self._words(others), self._most, first[known], self._depth)
            forest.link(others, others[crowd.link(asked)])


class Crowd:
    """Hashes that share so much that their pairs are too many."""

    def __init__(
        self, words: Words, most: int, known: Places | None = None, depth: int = 0
    ) -> None:
        """Take hashes.

        Args:
            words: The hashes, distinct, (n, words).
            most: Bits in which near hashes may differ.
            known: For each hash the first one that it is known to be linked to.
            depth: The crowds that this one is within.
        """
        self._words, self._most, self._depth = words, most, depth
        self._forest = Forest(len(words))
        if known is not None:
            self._forest.labels = known

    def link(self, asked: Places) -> Places:
        """Link some of the hashes to all that are near; return each one's first link."""
        before = 2 * len(asked)
        others = self._others(asked)
        while self._cost(others) > _CROWD and len(others) <= _PROGRESS * before:
            before = len(others)
            self._compare(others[:: max(1, before // _SAMPLE)])
            others = self._others(others)
        if self._cost(others) <= _CROWD or not self._link_by_bands(others):
            self._compare(others)
        self._forest.settle()
        return self._forest.labels

    def _cost(self, asked: Places) -> int:
        return len(asked) * self._words.size

    def _others(self, asked: Places) -> Places:
        """Return who must ask that all pairs of `asked` are looked at or known.

        Within the largest group all is known, so the others may ask in place of these.
        """
        self._forest.settle()
        groups, sizes = np.unique(self._forest.labels, return_counts=True)
        outside = np.flatnonzero(self._forest.labels != groups[np.argmax(sizes)])
        return outside if len(outside) < len(asked) else asked

    def _compare(self, asked: Places) -> None:
        for at in range(0, len(asked), _TILE[0]):
            rows = asked[at : at + _TILE[0]]
            for first in range(0, len(self._words), _TILE[1]):
                block = self._words[first : first + _TILE[1]]
                apart = np.zeros((len(rows), len(block)), np.uint16)
                for word in range(block.shape[1]):
                    apart += np.bitwise_count(self._words[rows, word, None] ^ block[:, word])
                left, right = np.nonzero(apart <= self._most)
                self._forest.link(rows[left], first + right)

    def _link_by_bands(self, asked: Places) -> bool:
        """Link all hashes by other bits, if that is less work than to compare those that ask."""
        hashes = len(self._words)
        ones = count_bits(self._words)
        varying = int(((ones > 0) & (ones < hashes)).sum())
        bands = plan_bands(hashes, varying, self._most)
        new = rearrange(self._words, deal_bits(ones, hashes, bands))
        if self._depth >= _DEPTH or sum(pairs(b, new[:, b.word]) for b in bands) > self._cost(
            asked
        ):
            return False
        for band in bands:
            order = np.argsort(band.keys(new[:, band.word]), kind="stable")
            words = new[order]
            self._forest.settle()
            part = Forest(hashes)
            part.link(*_in_order(order, self._forest.labels))
            search = Search(
                band, words[:, band.word].copy(), words.__getitem__, self._most, self._depth + 1
            )
            search.link(part, 0, 1 << band.width)
            part.settle()
            self._forest.link(order, order[part.labels])
        return True


def _in_order(order: Places, labels: Places) -> tuple[Places, Places]:
    """Return the links of things as links of their places in an order."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return np.arange(len(order)), place[labels[order]]
