"""Means over seeds, and paired differences of arms, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t

COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over seeds."""

    mean: float
    low: float
    """Ends of the interval; NaN of a single seed, which tells nothing of others."""
    high: float
    seeds: int

    def within(self, least: float, most: float) -> "Figure":
        """Return it with its interval cut to what such a figure can be."""
        return replace(self, low=max(self.low, least), high=min(self.high, most))

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0


def figure(values: Sequence[float]) -> Figure:
    """Return the mean of one value per seed, and Student's interval of 95 %.

    It tells what chance in corpora, captioners and models does: each seed has its own.  Source:
    "Student", "The probable error of a mean", 1908; it takes what seeds give as normal.
    """
    some = np.array([value for value in values if math.isfinite(value)])
    if not len(some):
        return Figure(math.nan, math.nan, math.nan, 0)
    mean = float(some.mean())
    if len(some) == 1:
        return Figure(mean, math.nan, math.nan, 1)
    reach = float(t.ppf((1 + COVERAGE) / 2, len(some) - 1) * some.std(ddof=1) / len(some) ** 0.5)
    return Figure(mean, mean - reach, mean + reach, len(some))


def paired(left: Sequence[float], right: Sequence[float]) -> Figure:
    """Return how much `left` is above `right`, seed by seed: what both share cancels.

    Args:
        left: A value per seed.
        right: Another, of the same seeds in the same order.
    """
    return figure([a - b for a, b in zip(left, right, strict=True)])
