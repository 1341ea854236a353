"""Cells: rows counted by how far they are from each threshold, exactly, and in bounded space.

A threshold has values to try, its *stops*, from the loosest to the strictest.  A row's digit says
how many of them it satisfies: at stop s the row breaks the threshold if its digit is s or less.
One more digit names the first reason that no threshold decides.  What cannot matter at any stop,
because something before it drops the row at all of them, is 0, so that such rows share a cell.

Where there are more than `MAX_CELLS`, every other stop is given up, of one threshold after the
other, always in the same order.  So the stops that are left depend on the rows alone, not on how
they were cut into parts, and what is told at these stops stays exact.
"""

import base64
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CELLS = 100_000
"""Ours: about 0.4 MB of a page; `python -m tests.bench report` tells."""
_KEY_BITS = 63
_ARRAYS = ("keys", "rows", "undecoded")

Numbers = NDArray[np.int64]


class Shape(NamedTuple):
    """The sizes of a grid of cells."""

    sizes: tuple[tuple[int, int], ...]
    """Of each threshold: how many stops there are, and which is the recipe's own."""
    places: tuple[int, ...]
    """Of each reason that no threshold decides: how many thresholds are judged before it."""

    def stops(self, level: int) -> list[Numbers]:
        """Return which stops of each threshold are left at a level: always the recipe's own."""
        steps = (2 ** ((level + at) // len(self.sizes)) for at in range(len(self.sizes)))
        every = zip(self.sizes, steps, strict=True)
        return [np.arange(own % step, size, step) for (size, own), step in every]

    def radices(self, level: int) -> list[int]:
        """Return how many values each digit may have."""
        return [*(len(stops) + 1 for stops in self.stops(level)), len(self.places) + 1]

    @property
    def first_level(self) -> int:
        """The finest level whose cells have numbers that fit into an integer."""
        levels = range(self.last_level)
        fit = (at for at in levels if sum(map(np.log2, self.radices(at))) < _KEY_BITS)
        return next(fit, self.last_level)

    @property
    def last_level(self) -> int:
        """The level at which only the recipe's own stops are left."""
        return len(self.sizes) * max(size for size, _ in self.sizes).bit_length()


class Cells(NamedTuple):
    """The cells with rows in them."""

    shape: Shape
    level: int
    keys: Numbers
    """The digits of each cell as one number, ascending."""
    rows: Numbers
    undecoded: Numbers
    """Of the rows, those whose image was not decoded."""

    def stored(self) -> dict[str, Any]:
        """Return what JSON can hold; the numbers are base64 of int64, as there are many."""
        arrays = {name: _text(getattr(self, name)) for name in _ARRAYS}
        shape = {"sizes": [list(size) for size in self.shape.sizes], "places": [*self.shape.places]}
        return {"shape": shape, "level": self.level} | arrays

    @classmethod
    def restored(cls, stored: dict[str, Any]) -> "Cells":
        """Return what was stored."""
        sizes = tuple((size, own) for size, own in stored["shape"]["sizes"])
        shape = Shape(sizes, tuple(stored["shape"]["places"]))
        return cls(shape, stored["level"], *(_numbers(stored[name]) for name in _ARRAYS))

    def digits(self) -> Numbers:
        """Return the digits, (thresholds + 1, cells)."""
        digits, rest = [], self.keys
        for radix in reversed(self.shape.radices(self.level)):
            rest, digit = np.divmod(rest, radix)
            digits.append(digit)
        return np.stack(digits[::-1])

    def plus(self, other: "Cells") -> "Cells":
        """Add up two parts."""
        level = max(self.level, other.level)
        parts = [self.coarsened(level), other.coarsened(level)]
        arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS)
        return _grouped(self.shape, level, *arrays).bounded()

    def coarsened(self, level: int) -> "Cells":
        """Give up the stops that a coarser level has not."""
        if level == self.level:
            return self
        keys = _keys(self.shape, level, _coarsen(self.shape, self.digits(), self.level, level))
        return _grouped(self.shape, level, keys, self.rows, self.undecoded)

    def bounded(self) -> "Cells":
        """Give up stops until there are no more cells than may be."""
        cells = self
        while len(cells.keys) > MAX_CELLS and cells.level < self.shape.last_level:
            cells = cells.coarsened(cells.level + 1)
        return cells


def cells_of(shape: Shape, digits: Numbers, undecoded: NDArray[np.bool_]) -> Cells:
    """Count rows by their digits, (thresholds + 1, rows), at all stops."""
    level = shape.first_level
    keys = _keys(shape, level, _coarsen(shape, digits, 0, level))
    ones = np.ones(len(keys), np.int64)
    return _grouped(shape, level, keys, ones, undecoded.astype(np.int64)).bounded()


def _text(numbers: Numbers) -> str:
    return base64.b64encode(numbers.astype("<i8").tobytes()).decode()


def _numbers(text: str) -> Numbers:
    return np.frombuffer(base64.b64decode(text), "<i8").astype(np.int64)


def _coarsen(shape: Shape, digits: Numbers, level: int, coarser: int) -> Numbers:
    """Return the digits at a coarser level."""
    coarse = digits.copy()
    for at, (before, after) in enumerate(
        zip(shape.stops(level), shape.stops(coarser), strict=True)
    ):
        satisfied = np.concatenate([[0], np.cumsum(np.isin(before, after))])
        coarse[at] = satisfied[digits[at]]
    return _without_what_cannot_matter(shape, coarse)


def _without_what_cannot_matter(shape: Shape, digits: Numbers) -> Numbers:
    """Set the digits after what drops a row at all stops to 0."""
    count = len(shape.sizes)
    place = np.array([count, *shape.places])[digits[-1]]
    broken = digits[:-1] == 0
    first = np.where(broken.any(axis=0), broken.argmax(axis=0), count)
    digits[-1][first < place] = 0
    digits[:-1][np.arange(count)[:, None] >= np.minimum(first, place)] = 0
    return digits


def _keys(shape: Shape, level: int, digits: Numbers) -> Numbers:
    keys = np.zeros(digits.shape[1], np.int64)
    for radix, digit in zip(shape.radices(level), digits, strict=True):
        keys = keys * radix + digit
    return keys


def _grouped(shape: Shape, level: int, keys: Numbers, rows: Numbers, undecoded: Numbers) -> Cells:
    """Add up what is of one cell."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    sums = (np.add.reduceat(n[order], starts) if len(keys) else n for n in (rows, undecoded))
    return Cells(shape, level, keys[starts], *sums)
