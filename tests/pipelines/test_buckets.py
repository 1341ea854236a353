"""Buckets: compared exactly if three of the ten nearest clusters are shared."""

from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.rule import RecipeError
from pipelines import buckets
from pipelines.buckets import (
    Buckets,
    build_buckets,
    kmeans,
    most_similar_exact,
    nearest_clusters,
    read_buckets,
    write_buckets,
)

Array = np.ndarray[Any, Any]


def unit(rows: Array) -> Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random(seed: int, count: int, width: int = 16) -> Array:
    return unit(np.random.default_rng(seed).normal(size=(count, width)))


def near(vectors: Array, seed: int, noise: float) -> Array:
    return unit(vectors + noise * np.random.default_rng(seed).normal(size=vectors.shape))


def by_literal_buckets(index: Buckets, queries: Array) -> list[tuple[int, float]]:
    """Look each query up in a dictionary of buckets, each named by three clusters."""
    named: dict[tuple[int, ...], set[int]] = {}
    for entry, clusters in enumerate(nearest_clusters(index.vectors, index.centroids).tolist()):
        for bucket in combinations(sorted(clusters), 3):
            named.setdefault(bucket, set()).add(entry)
    found = []
    for query, clusters in zip(
        queries, nearest_clusters(queries, index.centroids).tolist(), strict=True
    ):
        shared = set().union(*(named.get(b, set()) for b in combinations(sorted(clusters), 3)))
        ranked = [(-float(query @ index.vectors[entry]), entry) for entry in shared]
        cosine, entry = min(ranked, default=(np.inf, -1))
        found.append((entry, -cosine))
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    clusters=st.integers(10, 60),
    entries=st.integers(1, 150),
    noise=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_sharing_three_clusters_is_sharing_a_bucket(
    seed: int, clusters: int, entries: int, noise: float
) -> None:
    vectors = random(seed, entries)
    index = build_buckets(vectors, random(seed + 1, clusters))
    queries = np.concatenate([random(seed + 2, 20), near(vectors[:20], seed, noise)])

    found = index.most_similar(queries)

    wanted = by_literal_buckets(index, queries)
    assert found.entry.tolist() == [entry for entry, _ in wanted]
    assert found.cosine == pytest.approx([cosine for _, cosine in wanted], abs=1e-6)


@pytest.mark.parametrize(("shared", "entry"), [(2, -1), (3, 0)])
def test_two_clusters_in_common_are_too_few(shared: int, entry: int) -> None:
    centroids = np.eye(20, dtype=np.float32)
    one, other = np.zeros((2, 1, 20), np.float32)
    one[0, :10] = np.arange(1, 11)
    other[0, 10 - shared : 20 - shared] = np.arange(1, 11)

    found = build_buckets(unit(one), centroids).most_similar(unit(other))

    assert found.entry.tolist() == [entry]
    assert np.isinf(found.cosine).tolist() == [entry == -1]


@pytest.mark.parametrize("clusters", [1, 2, 9, 17])
def test_so_few_clusters_leave_nothing_uncompared(clusters: int) -> None:
    vectors, queries = random(0, 100), random(1, 50)

    found = build_buckets(vectors, random(2, clusters)).most_similar(queries)

    exact = most_similar_exact(queries, vectors)
    assert found.entry.tolist() == exact.entry.tolist()
    assert found.cosine.tolist() == exact.cosine.tolist()


def test_brute_force_finds_what_a_plain_loop_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_AT_ONCE", 7 * 1024)  # entries at once: seven
    vectors, queries = random(0, 200), random(1, 1100)

    found = most_similar_exact(queries, vectors)

    cosines = queries @ vectors.T
    assert found.entry.tolist() == cosines.argmax(1).tolist()
    assert found.cosine == pytest.approx(cosines.max(1), abs=1e-6)


def test_of_equals_the_first_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_AT_ONCE", 2 * 1024)  # entries at once: two
    vectors = np.repeat(random(0, 5), 3, axis=0)
    index = build_buckets(vectors, random(1, 5))

    assert index.most_similar(vectors).entry.tolist() == [n // 3 * 3 for n in range(15)]
    assert most_similar_exact(vectors, vectors).entry.tolist() == [n // 3 * 3 for n in range(15)]


def test_an_answer_does_not_depend_on_what_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = random(0, 500), near(random(0, 500), 1, 0.2)
    index = build_buckets(vectors, kmeans(vectors, 40))
    together = index.most_similar(queries)

    monkeypatch.setattr(buckets, "_AT_ONCE", 300)
    monkeypatch.setattr(buckets, "_PAIRS_AT_ONCE", 11)
    few = index.most_similar(queries)
    alone = [index.most_similar(queries[[n]]) for n in range(50)]

    assert few.entry.tolist() == together.entry.tolist()
    assert few.cosine.tolist() == together.cosine.tolist()
    assert [int(one.entry[0]) for one in alone] == together.entry[:50].tolist()
    assert [float(one.cosine[0]) for one in alone] == together.cosine[:50].tolist()


def test_nothing_asked_is_nothing_found() -> None:
    index = build_buckets(random(0, 5), random(1, 5))

    assert [a.tolist() for a in index.most_similar(np.empty((0, 16), np.float32))] == [[], []]


def test_the_nearest_clusters_are_those_of_a_sorted_list() -> None:
    vectors, centroids = random(0, 100), random(1, 50)

    nearest = nearest_clusters(vectors, centroids)

    assert nearest.tolist() == np.argsort(-(vectors @ centroids.T), axis=1)[:, :10].tolist()
    assert nearest_clusters(vectors, centroids[:4], 10).shape == (100, 4)
    assert nearest_clusters(vectors, centroids, 1).tolist() == nearest[:, :1].tolist()


def test_of_clusters_equally_near_the_first_comes_first() -> None:
    vectors, centroids = random(0, 20), np.repeat(random(1, 1), 3, axis=0)

    assert nearest_clusters(vectors, centroids).tolist() == [[0, 1, 2]] * 20


def test_a_cluster_lists_the_entries_that_are_near_it() -> None:
    vectors, centroids = random(0, 3000), random(1, 30)

    index = build_buckets(vectors, centroids)

    nearest = nearest_clusters(vectors, centroids)
    assert [part.tolist() for part in np.split(index.entries, index.starts[1:-1])] == [
        np.flatnonzero((nearest == cluster).any(axis=1)).tolist() for cluster in range(30)
    ]
    assert (index.starts[0], index.starts[-1]) == (0, 30_000)


def test_kmeans_ends_where_each_centre_is_the_middle_of_its_vectors() -> None:
    vectors = near(np.repeat(random(0, 12), 30, axis=0), 1, 0.1)

    found = kmeans(vectors, 12)

    own = nearest_clusters(vectors, found, 1)[:, 0]
    middles = unit(np.stack([vectors[own == n].sum(axis=0) for n in range(12)]))
    assert found.dtype == np.float32
    assert found == pytest.approx(middles, abs=1e-6)


def test_kmeans_gives_each_cluster_a_centre_of_length_1_near_some_vector() -> None:
    vectors = random(0, 400)

    found = kmeans(vectors, 50)

    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(50), abs=1e-6)
    assert len(np.unique(nearest_clusters(vectors, found, 1))) == 50


def test_kmeans_is_the_same_for_the_same_seed() -> None:
    vectors = random(0, 300)

    found = [kmeans(vectors, 10, seed).tolist() for seed in (0, 0, 1)]

    assert found[0] == found[1]
    assert found[0] != found[2]


def test_kmeans_makes_no_more_clusters_than_vectors() -> None:
    vectors = random(0, 3)

    assert kmeans(vectors, 10).tolist() == vectors.tolist()


def test_kmeans_looks_at_a_sample_of_many_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_SAMPLE", 1)
    vectors = random(0, 1000)

    found = kmeans(vectors, 8)

    assert (found @ vectors.T).max(1) == pytest.approx(np.ones(8), abs=1e-6)
    assert len(np.unique(found, axis=0)) == 8


def test_kmeans_bears_a_crowd_of_equals() -> None:
    vectors = np.concatenate([np.repeat(random(0, 1), 500, axis=0), random(1, 20)])

    found = kmeans(vectors, 15)

    assert np.isfinite(found).all()
    assert len(np.unique(nearest_clusters(vectors, found, 1))) >= 14


def test_what_is_written_is_mapped_into_memory(tmp_path: Path) -> None:
    vectors, queries = random(0, 200), random(1, 50)
    index = build_buckets(vectors, kmeans(vectors, 30))

    write_buckets(tmp_path, index)
    again = read_buckets(tmp_path)

    assert all(isinstance(getattr(again, field.name), np.memmap) for field in fields(Buckets))
    assert again.most_similar(queries).entry.tolist() == index.most_similar(queries).entry.tolist()


@pytest.mark.parametrize("name", [field.name for field in fields(Buckets)])
def test_arrays_that_do_not_go_together_are_refused(tmp_path: Path, name: str) -> None:
    write_buckets(tmp_path, build_buckets(random(0, 50), random(1, 20)))
    path = tmp_path / f"{name}.npy"
    np.save(path, np.load(path)[:-1])

    with pytest.raises(RecipeError, match=r"must hold the arrays .* got shapes .* build the index"):
        read_buckets(tmp_path)


def test_an_empty_index_is_refused(tmp_path: Path) -> None:
    write_buckets(tmp_path, build_buckets(random(0, 1)[:0], random(1, 20)))

    with pytest.raises(RecipeError, match=r"got shapes \(0, 16\), \(20, 16\), \(0,\), \(21,\)"):
        read_buckets(tmp_path)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"got .*No such file"):
        read_buckets(tmp_path)

    write_buckets(tmp_path, build_buckets(random(0, 50), random(1, 20)))
    (tmp_path / "starts.npy").write_text("no array")
    with pytest.raises(RecipeError, match="must hold the arrays"):
        read_buckets(tmp_path)
