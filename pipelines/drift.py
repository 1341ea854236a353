"""How far two distributions are from one another, by named distances, from their histograms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, wasserstein_distance

GROUPS = 10
"""Of about as many rows each, which the population stability index compares: deciles, as usual."""
SOME, LARGE = 0.1, 0.25
"""How the index is read: below 0.1 nothing has changed, above 0.25 a lot has.

Siddiqi 2006, "Credit Risk Scorecards", chapter 8.  The rule says nothing of how many rows there
are; `Drift.chance` does.
"""
_CHANCE = 0.95
_EMPTY_ROWS = 0.5

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the values of a column in B are from those in A."""

    column: str
    of: str
    """`all` rows, or those `kept`."""
    psi: float
    """The population stability index: the sum over groups of (b - a) ln(b / a), a and b the shares
    of rows in a group; rows without the column are a group, too.  An empty group counts as half a
    row (ours), as the index would be infinite."""
    chance: float
    """What the index exceeds in one of 20 cases where nothing has changed.

    A chi-squared limit times 1/rows of A + 1/rows of B: Yurdakul and Naranjo 2020, "Statistical
    properties of the population stability index", Journal of Risk Model Validation 14(4).
    """
    wasserstein: float | None
    """The Wasserstein-1 distance of the known values, each at the middle of its bin, so right to a
    bin's width; None of categories, which have no order, and where a side has no value."""
    unit: str
    """Of the Wasserstein distance: of a column on a log scale, `doublings`."""

    @property
    def reading(self) -> str:
        """What the index means."""
        if self.psi <= self.chance:
            return "chance"
        if self.psi < SOME:
            return "small"
        return "some" if self.psi <= LARGE else "large"


def of_histogram(
    name: tuple[str, str], edges: Sequence[float], scale: str, a: Sequence[int], b: Sequence[int]
) -> Drift:
    """Measure the drift of a column of numbers.

    Args:
        name: The column, and of which rows.
        edges: Of the bins.
        scale: `linear` or `log`.
        a: Rows in each bin, and last those without a value.
        b: The same of the other run.
    """
    column, of = name
    counts = [np.array(side, np.float64) for side in (a, b)]
    psi, chance = stability(*_grouped(*counts))
    known = [side[:-1] for side in counts]
    distance = None
    if all(side.any() for side in known):
        middles = _middles(np.array(edges, np.float64), scale)
        distance = float(wasserstein_distance(middles, middles, *known))
    return Drift(column, of, psi, chance, distance, "doublings" if scale == "log" else column)


def of_categories(name: tuple[str, str], a: dict[str, int], b: dict[str, int]) -> Drift:
    """Measure the drift of a column of labels, given the rows with each."""
    column, of = name
    labels = sorted(a | b)
    sides = [np.array([side.get(label, 0) for label in labels], np.float64) for side in (a, b)]
    psi, chance = stability(*sides)
    return Drift(column, of, psi, chance, None, "")


def stability(a: Counts, b: Counts) -> tuple[float, float]:
    """Return the population stability index of two counts of rows by group, and what chance makes.

    Groups without a row on either side are none; without rows at all on a side, both are 0.
    """
    there = (a + b) > 0
    a, b = a[there], b[there]
    rows = a.sum(), b.sum()
    if not (rows[0] and rows[1]) or len(a) < 2:
        return 0.0, 0.0
    shares = [np.maximum(side, _EMPTY_ROWS) / side.sum() for side in (a, b)]
    psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    return psi, float(chi2.ppf(_CHANCE, len(a) - 1) * (1 / rows[0] + 1 / rows[1]))


def _grouped(a: Counts, b: Counts) -> tuple[Counts, Counts]:
    """Join bins into groups of about as many rows of A each; the last, of no value, stays alone."""
    known = a[:-1]
    before = np.cumsum(known) - known / 2
    group = np.minimum(before * GROUPS // max(known.sum(), 1), GROUPS - 1).astype(np.int64)
    joined = [np.bincount(group, side[:-1], GROUPS) for side in (a, b)]
    return np.append(joined[0], a[-1]), np.append(joined[1], b[-1])


def _middles(edges: Counts, scale: str) -> Counts:
    if scale == "log":
        edges = np.log2(np.maximum(edges, 0.5))
    middles: Counts = (edges[1:] + edges[:-1]) / 2
    return middles
