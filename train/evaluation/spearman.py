"""Correlate what a model thinks of pairs with what people think, where pairs share items."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

SAMPLES = 1000
"""Source: Parekh et al. (arXiv:2004.15020)."""
SEED = 0


def sampled_spearman(
    queries: NDArray[np.int64],
    cosines: NDArray[np.float64],
    scores: NDArray[np.float64],
    samples: int = SAMPLES,
) -> tuple[float, float]:
    """Correlate ranks in samples of half of the queries, one pair of each.

    The scores of one query's pairs go together; a correlation over all pairs would count each as
    evidence of its own.

    Args:
        queries: Of each pair, its query.
        cosines: Of each pair, what the model thinks.
        scores: Of each pair, what people think.
        samples: How many.

    Returns:
        Mean and standard deviation over the samples.
    """
    generator = np.random.default_rng(SEED)
    order = np.argsort(queries, kind="stable")
    starts = np.flatnonzero(np.diff(queries[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    half = max(1, len(starts) // 2)
    found = np.empty(samples)
    for i in range(samples):
        some = generator.permutation(len(starts))[:half]
        rows = order[starts[some] + (generator.random(half) * sizes[some]).astype(np.int64)]
        found[i] = spearman(cosines[rows], scores[rows])
    return float(found.mean()), float(found.std())


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the correlation of ranks, ties at their mean rank; of what is constant, 0."""
    ranks = np.stack([rankdata(first), rankdata(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((ranks**2).sum(axis=1).prod()))
    return float(ranks[0] @ ranks[1]) / scale if scale else 0.0
