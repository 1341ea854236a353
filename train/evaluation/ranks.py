"""Among how many of the nearest something right is found; ties are no luck."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from train.evaluation.encoder import Floats

Probabilities = NDArray[np.float64]

TIE = 1e-9
"""Cosines closer than this are equal.

They are of float32 vectors, multiplied in float64: what differs by less differs by rounding alone.
"""
_CELLS = 1 << 23
"""Of a tile of cosines, 64 MiB: memory does not grow with the number of queries."""


def found_within(
    queries: Floats,
    items: Floats,
    is_right: Callable[[slice], NDArray[np.bool_]],
    ks: Sequence[int],
    *,
    itself: bool = False,
) -> Probabilities:
    """Tell for each query whether one of its right items is among its k nearest.

    Items of equal cosine come in any order, so the answer is the probability over these orders
    (McSherry and Najork, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", ECIR 2008): 0 or 1 without ties, and k of n where all vectors are one.

    Args:
        queries: (n, d), of length 1.
        items: (m, d), of length 1.
        is_right: Of a slice of queries, which items (rows, m) are right for them.
        ks: How many of the nearest.
        itself: Queries are the items, and none finds itself.

    Returns:
        (n, len(ks)); NaN for a query without anything right.
    """
    wide = items.astype(np.float64)
    step = max(1, _CELLS // len(items))
    found = np.empty((len(queries), len(ks)))
    for first in range(0, len(queries), step):
        rows = slice(first, min(first + step, len(queries)))
        cosines = queries[rows].astype(np.float64) @ wide.T
        right = is_right(rows)
        if itself:
            own = np.arange(rows.start, rows.stop)
            cosines[own - rows.start, own] = -np.inf
        found[rows] = _found(cosines, right, ks)
    return found


def found_in(cosines: Floats, labels: NDArray[np.int64], ks: Sequence[int]) -> Probabilities:
    """Tell whether the right class is among the k nearest; see `found_within`.

    Args:
        cosines: Of each image with each class, (n, classes).
        labels: The right class of each image.
        ks: How many of the nearest.
    """
    right = np.arange(cosines.shape[1]) == labels[:, None]
    return _found(cosines.astype(np.float64), right, ks)


def _found(cosines: Floats, right: NDArray[np.bool_], ks: Sequence[int]) -> Probabilities:
    best = np.where(right, cosines, -np.inf).max(axis=1, keepdims=True)
    nearer = (cosines > best + TIE).sum(axis=1)
    tied = (cosines >= best - TIE) & (cosines <= best + TIE)
    num_tied, num_right = tied.sum(axis=1), (tied & right).sum(axis=1)
    found = np.stack([1 - _none(k - nearer, num_tied, num_right) for k in ks], axis=1)
    found[np.isneginf(best[:, 0])] = np.nan
    return found


def _none(
    drawn: NDArray[np.int64], total: NDArray[np.int64], right: NDArray[np.int64]
) -> Probabilities:
    """Return how likely no right one is among some drawn of the total, without replacement."""
    drawn = np.maximum(drawn, 0)
    none = np.ones(len(drawn))
    for i in range(int(right.max(initial=0))):
        left = np.maximum(total - drawn - i, 0) / np.maximum(total - i, 1)
        none *= np.where(i < right, left, 1)
    return none
