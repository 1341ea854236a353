"""Shares of what was tried, with 95 % confidence intervals."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

CONFIDENCE = 0.95


class Rate(NamedTuple):
    """How many of some trials had an outcome, and what that tells of the share of all."""

    found: int
    of: int
    share: float | None
    low: float
    high: float


def rate(count: int, of: int, effect: float = 1.0) -> Rate:
    """Return a share and its Clopper-Pearson interval, exact for independent trials.

    Args:
        count: Of the outcome.
        of: Of the trials.
        effect: The design effect of trials that depend on one another, by which they count for
            fewer.  Source: Korn and Graubard, "Confidence intervals for proportions with small
            expected number of positive counts estimated from survey data", 1998.
    """
    if not of:
        return Rate(count, of, None, 0.0, 1.0)
    hits, trials = count / effect, of / effect
    tail = (1 - CONFIDENCE) / 2
    low = betaincinv(hits, trials - hits + 1, tail) if count else 0.0
    high = betaincinv(hits + 1, trials - hits, 1 - tail) if count < of else 1.0
    return Rate(count, of, count / of, float(low), float(high))


def rate_of_groups(outcomes: NDArray[np.bool_]) -> Rate:
    """Return the share of outcomes, (groups, trials), where trials of a group may be alike.

    The copies of one image are such a group: an image that is missed once is missed often.
    """
    groups, size = outcomes.shape
    count, of = int(outcomes.sum()), outcomes.size
    share = count / max(1, of)
    spread = size * share * (1 - share)
    if groups < 2 or not spread:  # nothing tells how alike they are: each group counts for one
        return rate(count, of, max(1, size))
    effect = float(np.var(outcomes.sum(axis=1), ddof=1)) / spread
    return rate(count, of, min(max(effect, 1.0), size))


def rate_of_pairs(matches: NDArray[np.int64], others: int) -> Rate:
    """Return the share of pairs that match, given the matches of each image with `others`.

    Matches of one image come together: they count for as many as if each were alone.
    """
    count = int(matches.sum())
    effect = float((matches**2).sum() / count) if count else 1.0
    return rate(count, len(matches) * others, effect)


def at_most(found: Rate) -> float:
    """Return the share that is not exceeded, with the same confidence on that side alone.

    Of no outcome in n trials this is the rule of three, 3 / n.
    """
    if not found.of or found.found:
        return found.high
    return float(1 - (1 - CONFIDENCE) ** (1 / found.of))
