"""Judging a detector: the threshold is what the closest different pictures allow."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench.recall import Detector, cosine, either, hamming, judge

PHOTOGRAPHS = [f"photograph {n}" for n in range(200)]


def apart_by_hand(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    ones = [[[f"{word:064b}" for word in row] for row in side.tolist()] for side in (left, right)]
    return np.array(
        [
            [sum(a != b for a, b in zip("".join(x), "".join(y), strict=True)) for y in ones[1]]
            for x in ones[0]
        ]
    )


def random_codes(seed: int, rows: int, words: int = 1) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, (rows, words), np.uint64)


def test_hamming_is_what_a_person_would_count() -> None:
    left, right = random_codes(1, 5, 4), random_codes(2, 3, 4)

    assert (hamming(left, right) == apart_by_hand(left, right)).all()


def test_cosine_is_0_of_the_same_direction_and_2_of_the_opposite_one() -> None:
    left, right = np.array([[3.0, 4.0]]), np.array([[6.0, 8.0], [-3.0, -4.0], [4.0, -3.0]])

    assert cosine(left, right) == pytest.approx(np.array([[0.0, 2.0, 1.0]]))


@pytest.mark.parametrize("pairs", [0, 1, 5])
def test_the_threshold_lets_as_many_different_pairs_match_as_may(pairs: int) -> None:
    codes = random_codes(0, len(PHOTOGRAPHS))
    detector = Detector("random", dict(zip(PHOTOGRAPHS, codes, strict=True)))

    judged = judge(detector, PHOTOGRAPHS, {}, pairs)

    apart = np.sort(apart_by_hand(codes, codes)[np.triu_indices(len(codes), 1)])
    assert judged.nearer_than == apart[pairs]
    assert [far for far, _, _ in judged.closest] == apart[: pairs + 1].tolist()


def flip_bits(code: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    return code ^ np.uint64((1 << bits) - 1)


@pytest.mark.parametrize(("less", "found"), [(1, 1.0), (0, 0.0)])
def test_a_copy_is_found_if_it_is_nearer_than_the_threshold(less: int, found: float) -> None:
    codes = dict(zip(PHOTOGRAPHS, random_codes(0, len(PHOTOGRAPHS)), strict=True))
    nearer_than = judge(Detector("random", codes), PHOTOGRAPHS, {}, 0).nearer_than
    codes["copy"] = flip_bits(codes["photograph 7"], int(nearer_than) - less)

    judged = judge(Detector("random", codes), PHOTOGRAPHS, {("photograph 7", 4): "copy"}, 0)

    assert judged.recall == {4: found}


def test_a_copy_is_found_by_any_variant_that_the_index_has() -> None:
    codes = dict(zip(PHOTOGRAPHS, random_codes(0, len(PHOTOGRAPHS)), strict=True))
    variants = {n: np.stack([code, ~code]) for n, code in codes.items()}
    codes["copy"] = variants["photograph 7"][1]
    copies: dict[tuple[str, int], str] = {("photograph 7", 0): "copy"}

    alone, with_variants = (
        judge(Detector("random", codes, hamming, indexed), PHOTOGRAPHS, copies, 0).recall
        for indexed in ({}, variants)
    )

    assert (alone, with_variants) == ({0: 0.0}, {0: 1.0})


def test_what_has_no_code_matches_nothing() -> None:
    codes = dict(zip(PHOTOGRAPHS, random_codes(0, len(PHOTOGRAPHS)), strict=True))
    codes["copy"] = codes.pop("photograph 7")
    copies = {("photograph 7", 0): "copy", ("photograph 8", 0): "no such copy"}

    assert judge(Detector("random", codes), PHOTOGRAPHS, copies, 0).recall == {0: 0.0}


def test_either_finds_what_one_of_both_finds() -> None:
    rng = np.random.default_rng(3)
    bits = dict(zip(PHOTOGRAPHS, random_codes(0, len(PHOTOGRAPHS), 4), strict=True))
    vectors = dict(zip(PHOTOGRAPHS, rng.standard_normal((len(PHOTOGRAPHS), 9)), strict=True))
    hashed, embedded = Detector("bits", bits), Detector("vectors", vectors, cosine)
    names = PHOTOGRAPHS[:2]

    both = either(hashed, embedded, 40, 0.5)

    found = both.apart(*(np.stack([both.codes[n] for n in some]) for some in (names, PHOTOGRAPHS)))
    by_bits, by_vectors = (
        one.apart(*(np.stack([one.codes[n] for n in some]) for some in (names, PHOTOGRAPHS)))
        for one in (hashed, embedded)
    )
    assert found == pytest.approx(np.minimum(by_bits / 40, by_vectors / 0.5), abs=1e-5)
