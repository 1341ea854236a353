"""Find the most similar of many vectors: ALIGN's buckets, and brute force to judge them by.

Source: ALIGN (arXiv:2102.05918), appendix A.  Vectors are clustered by k-means; each has its ten
nearest clusters, and lies in a bucket for every three of those.  Only a query and an entry that
share a bucket are compared, and so they are exactly when their ten nearest clusters have three in
common: no bucket is ever made.  The paper calls a cosine above 0.975, and not 0.975 itself, a
near-duplicate.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from filters.rule import RecipeError

CLUSTERS = 4000
"""ALIGN says "4K"."""
NEAREST = 10
SHARED = 3

_ROUNDS = 20
_SAMPLE = 64
"""Vectors per cluster that k-means looks at, at most."""
_AT_ONCE = 4_194_304
"""Numbers held in memory at once, of scores or of postings; some 100 MB with all that is made."""
_PAIRS_AT_ONCE = 8192

Vectors = NDArray[np.float32]


class Found(NamedTuple):
    """The most similar entry of each query."""

    entry: NDArray[np.int64]
    """Which one, the first of equals; -1 where there is none to compare with."""
    cosine: NDArray[np.float32]
    """How similar; minus infinity where there is none."""


def kmeans(vectors: Vectors, clusters: int = CLUSTERS, seed: int = 0) -> Vectors:
    """Find the centres of clusters by Lloyd's algorithm, the same for the same vectors and seed.

    Of very many vectors a sample is looked at.  There are no more clusters than vectors.  Centres
    are of length 1, too: plain means are the shorter, the more their vectors differ, and the
    shortest would be near to everything.
    """
    rng = np.random.default_rng(seed)
    if len(vectors) > _SAMPLE * clusters:
        vectors = vectors[np.sort(rng.choice(len(vectors), _SAMPLE * clusters, replace=False))]
    clusters = min(clusters, len(vectors))
    centroids = vectors[np.sort(rng.choice(len(vectors), clusters, replace=False))]
    labels = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        before, (labels, closeness) = labels, _nearest(vectors, centroids)
        if np.array_equal(before, labels):
            break
        centroids = _means(vectors, labels, clusters)
        empty = np.setdiff1d(np.arange(clusters), labels)  # each gets a vector that lies far off
        centroids[empty] = vectors[np.argsort(closeness, kind="stable")[: len(empty)]]
    return np.ascontiguousarray(centroids, np.float32)


def nearest_clusters(
    vectors: Vectors, centroids: Vectors, count: int = NEAREST
) -> NDArray[np.int32]:
    """Return the clusters nearest to each vector, the nearest first, or all if there are fewer."""
    count = min(count, len(centroids))
    nearest = np.empty((len(vectors), count), np.int32)
    for rows, scores in _scores(vectors, centroids):
        some = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.lexsort((some, -np.take_along_axis(scores, some, 1)))
        nearest[rows] = np.take_along_axis(some, order, 1)
    return nearest


@dataclass(frozen=True, slots=True)
class Buckets:
    """Vectors of length 1, arranged so that the similar ones of a query are found quickly."""

    vectors: Vectors
    centroids: Vectors
    entries: NDArray[np.int32]
    """The numbers of the vectors near each cluster, ascending, cluster after cluster."""
    starts: NDArray[np.int64]
    """Where each cluster's begin in `entries`, and where the last one's end."""

    def most_similar(self, queries: Vectors) -> Found:
        """Find each query's most similar entry, among those in its buckets."""
        found = Found(np.full(len(queries), -1), np.full(len(queries), -np.inf, dtype=np.float32))
        nearest = nearest_clusters(queries, self.centroids)
        shape = (len(self.centroids), len(self.vectors))
        ones = np.ones(len(self.entries), np.uint8)
        near_entries = sparse.csr_array((ones, self.entries, self.starts), shape=shape)
        hits = np.diff(self.starts)[nearest].sum(axis=1)
        for rows in _blocks(np.cumsum(hits)):
            shared = _indicator(nearest[rows], len(self.centroids)) @ near_entries
            enough = shared.data >= min(SHARED, len(self.centroids))
            query = np.repeat(np.arange(rows.start, rows.stop), np.diff(shared.indptr))[enough]
            entry = shared.indices[enough]
            if len(query):
                _keep_best(found, query, entry, _cosines(queries, self.vectors, query, entry))
        return found


def build_buckets(vectors: Vectors, centroids: Vectors) -> Buckets:
    """Arrange vectors by the clusters that they are near to."""
    nearest = nearest_clusters(vectors, centroids)
    order = np.argsort(nearest.ravel(), kind="stable")
    starts = np.zeros(len(centroids) + 1, np.int64)
    np.cumsum(np.bincount(nearest.ravel(), minlength=len(centroids)), out=starts[1:])
    entries = (order // nearest.shape[1]).astype(np.int32)
    return Buckets(vectors, centroids, entries, starts)


def write_buckets(folder: Path, buckets: Buckets) -> None:
    """Write an array per file, uncompressed, so that they can be mapped into memory."""
    folder.mkdir(parents=True, exist_ok=True)
    for field in fields(buckets):
        np.save(folder / f"{field.name}.npy", getattr(buckets, field.name))


def read_buckets(folder: Path) -> Buckets:
    """Map into memory what `write_buckets` wrote.

    Raises:
        RecipeError: An array is not there, or does not go with the others.
    """
    try:
        arrays = [np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(Buckets)]
    except (OSError, ValueError) as error:
        raise _refused(folder, str(error)) from None
    vectors, centroids, entries, starts = arrays
    whole = (
        vectors.ndim == centroids.ndim == 2
        and vectors.shape[1] == centroids.shape[1]
        and entries.shape == (len(vectors) * min(NEAREST, len(centroids)),)
        and starts.shape == (len(centroids) + 1,)
        and 0 < entries.size == starts[-1]
    )
    if not whole:
        raise _refused(folder, "shapes " + ", ".join(str(array.shape) for array in arrays))
    return Buckets(vectors, centroids, entries, starts)


def most_similar_exact(queries: Vectors, vectors: Vectors) -> Found:
    """Find each query's most similar of all vectors, by brute force."""
    found = Found(np.full(len(queries), -1), np.full(len(queries), -np.inf, dtype=np.float32))
    per_query, per_block = 1024, _AT_ONCE // 1024
    for first in range(0, len(queries), per_query):
        asked = queries[first : first + per_query]
        every = np.arange(first, first + len(asked))
        for start in range(0, len(vectors), per_block):
            best = start + (asked @ vectors[start : start + per_block].T).argmax(axis=1)
            _keep_best(found, every, best, _cosines(queries, vectors, every, best))
    return found


def _nearest(vectors: Vectors, centroids: Vectors) -> tuple[NDArray[np.int64], Vectors]:
    """Return the nearest cluster of each vector, and its cosine."""
    labels, closeness = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for rows, scores in _scores(vectors, centroids):
        labels[rows] = scores.argmax(axis=1)
        closeness[rows] = scores.max(axis=1)
    return labels, closeness


def _scores(vectors: Vectors, centroids: Vectors) -> Iterator[tuple[slice, Vectors]]:
    """Return the cosine of each vector and each centre, some vectors at a time."""
    step = max(1, _AT_ONCE // len(centroids))
    for first in range(0, len(vectors), step):
        rows = slice(first, min(first + step, len(vectors)))
        yield rows, vectors[rows] @ centroids.T


def _means(vectors: Vectors, labels: NDArray[np.int64], clusters: int) -> Vectors:
    sums = np.zeros((clusters, vectors.shape[1]))
    step = max(1, _AT_ONCE // vectors.shape[1])
    for first in range(0, len(vectors), step):
        some = slice(first, first + step)
        sums += _indicator(labels[some, None], clusters, np.float32).T @ vectors[some]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, lengths, out=sums, where=lengths > 0).astype(np.float32)


def _indicator(
    labels: NDArray[Any], clusters: int, kind: type[np.generic] = np.uint8
) -> sparse.csr_array:
    """Return a row per row of `labels`, with 1 at each of them."""
    starts = np.arange(0, labels.size + 1, labels.shape[1])
    ones = np.ones(labels.size, kind)
    return sparse.csr_array((ones, labels.ravel(), starts), shape=(len(labels), clusters))


def _blocks(total: NDArray[np.int64]) -> Iterator[slice]:
    """Cut queries into runs with at most so many postings together, or of one query."""
    start = 0
    while start < len(total):
        limit = (total[start - 1] if start else 0) + _AT_ONCE
        stop = max(start + 1, int(np.searchsorted(total, limit, "right")))
        yield slice(start, stop)
        start = stop


def _cosines(
    queries: Vectors, vectors: Vectors, query: NDArray[np.int64], entry: NDArray[Any]
) -> Vectors:
    """Return the cosine of each pair, always rounded alike."""
    cosines = np.empty(len(query), np.float32)
    for first in range(0, len(query), _PAIRS_AT_ONCE):
        some = slice(first, first + _PAIRS_AT_ONCE)
        cosines[some] = np.einsum("pd,pd->p", queries[query[some]], vectors[entry[some]])
    return cosines


def _keep_best(
    found: Found, query: NDArray[np.int64], entry: NDArray[Any], cosine: Vectors
) -> None:
    """Take over the best entry of each query, the first of equals, if it beats what was found."""
    order = np.lexsort((entry, -cosine, query))
    first = order[np.diff(query[order], prepend=-1) != 0]
    better = first[cosine[first] > found.cosine[query[first]]]
    found.entry[query[better]] = entry[better]
    found.cosine[query[better]] = cosine[better]


def _refused(folder: Path, got: str) -> RecipeError:
    return RecipeError(
        f"{folder} must hold the arrays of an index of embeddings, got {got}; build the index again"
    )
