"""The nearest hash: what comparing with all of them finds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import hamming
from pipelines.hamming import Index, Words, write_index

RADII = {1: 8, 4: 31}


def nearest(hashes: Words, query: Words, radius: int) -> tuple[int, int]:
    """Compare a hash with all others."""
    if not len(hashes):
        return -1, radius + 1
    apart = np.bitwise_count(hashes ^ query).astype(int).sum(axis=1)
    at = int(apart.argmin())
    return (at, int(apart[at])) if apart[at] <= radius else (-1, radius + 1)


def near(hashes: Words, generator: np.random.Generator, most: int) -> Words:
    """Return copies of hashes of which up to `most` bits are flipped."""
    copies = hashes.copy()
    bits = 64 * hashes.shape[1]
    for copy in copies:
        for bit in generator.choice(bits, generator.integers(0, most + 1), replace=False):
            copy[bit // 64] ^= np.uint64(1 << int(bit % 64))
    return copies


def check(folder: Path, hashes: Words, queries: Words, radius: int) -> None:
    write_index(folder, hashes)
    found = Index(folder).nearest(queries, radius)
    expected = [nearest(hashes, query, radius) for query in queries]
    assert list(zip(found.at.tolist(), found.distance.tolist(), strict=True)) == expected


@pytest.mark.parametrize("words", [1, 4])
@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_it_is_what_brute_force_finds(words: int, rows: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(rows)
    hashes = generator.integers(0, 2**64, (rows, words), np.uint64)
    queries = generator.integers(0, 2**64, (200, words), np.uint64)
    radius = RADII[words]

    check(
        tmp_path,
        hashes,
        np.concatenate([queries, near(hashes[:300], generator, radius + 3)]),
        radius,
    )


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 11, 15])
def test_any_radius_is_exact(radius: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(radius)
    hashes = generator.integers(0, 2**64, (2000, 1), np.uint64)

    check(tmp_path, hashes, near(hashes[:200], generator, radius + 2), radius)


def test_large_tables_have_other_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_MANY", 10)
    generator = np.random.default_rng(1)
    hashes = generator.integers(0, 2**64, (2000, 1), np.uint64)

    check(tmp_path, hashes, near(hashes[:300], generator, 10), 8)


def test_many_queries_and_candidates_are_cut_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hamming, "_QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(hamming, "_CANDIDATES_AT_ONCE", 50)
    generator = np.random.default_rng(2)
    alike = near(
        np.repeat(generator.integers(0, 2**64, (1, 4), np.uint64), 400, axis=0), generator, 9
    )

    check(tmp_path, alike, near(alike[:90], generator, 20), 31)


@given(hashes=st.lists(st.integers(0, 2**64 - 1), max_size=30), queries=st.lists(st.integers(0, 9)))
def test_any_hashes(
    hashes: list[int], queries: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stored = np.array(hashes, np.uint64).reshape(-1, 1)
    asked = np.array([*queries, *(h ^ 5 for h in hashes)], np.uint64).reshape(-1, 1)

    check(tmp_path_factory.mktemp("index"), stored, asked, 8)
