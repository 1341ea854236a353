"""Find how probable a match must be for the filter's "matched" to be right as often as told."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """The filter's threshold, and what it does to held-out pairs."""

    threshold: float
    """A caption is called matched where its probability is this or more."""
    precision: float
    """Share of what is called matched that is, at the prior."""
    recall: float
    """Share of what matches that is called so."""
    reached: bool
    """Whether that is the precision asked for; if not, it is the highest there is."""
    asked_precision: float
    prior: float
    """Share of the captions judged that match, as is assumed."""
    auc: dict[str, float]
    """For each kind of negatives: how often a match is more probable than one of them."""
    num_positives: int
    num_negatives: dict[str, int]


def calibrate(
    positives: Scores, negatives: Mapping[str, Scores], precision: float, prior: float
) -> Threshold:
    """Find the lowest threshold of the precision asked for: of all of them, it keeps most.

    Args:
        positives: Probabilities of pairs that match; one or more.
        negatives: Probabilities of pairs that do not, by kind, each kind as frequent as another
            however many of it are given; one or more each.
        precision: Asked for, above 0 and below 1.
        prior: Share of the captions judged that match, above 0 and below 1.
    """
    candidates = np.unique(positives)
    recall = _share_from(positives, candidates)
    kinds = [_share_from(scores, candidates) for scores in negatives.values()]
    passed = (1 - prior) * np.mean(kinds, axis=0)
    precisions = prior * recall / (prior * recall + passed)
    good = np.flatnonzero(precisions >= precision)
    best = int(good[0]) if len(good) else int(np.argmax(precisions))
    return Threshold(
        threshold=float(candidates[best]),
        precision=float(precisions[best]),
        recall=float(recall[best]),
        reached=bool(len(good)),
        asked_precision=precision,
        prior=prior,
        auc={kind: measure_auc(positives, scores) for kind, scores in negatives.items()},
        num_positives=len(positives),
        num_negatives={kind: len(scores) for kind, scores in negatives.items()},
    )


def measure_auc(positives: Scores, negatives: Scores) -> float:
    """Return how often one of the positives is above one of the negatives; ties count half."""
    ranked = np.sort(negatives)
    below = np.searchsorted(ranked, positives, "left") + np.searchsorted(ranked, positives, "right")
    return float(below.mean() / 2 / len(negatives))


def _share_from(scores: Scores, thresholds: Scores) -> Scores:
    """Return the share of scores that are at each threshold or above."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")) / len(scores)
