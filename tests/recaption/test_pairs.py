"""The pairs to learn from: decoded once, parted by key, dealt by seed."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from filters.rule import RecipeError
from tests.recaption.drawings import drawing, encoded

pytest.importorskip("torch", reason="needs the extra recaption")

from recaption.pairs import Pair, batches, caption_ids, read_corpus  # needs torch
from tests.recaption.squares import read_squares

IMAGES = [encoded(drawing(seed)) for seed in range(5)]


def pairs(prefix: str, count: int) -> list[Pair]:
    return [(f"{prefix}{i}", IMAGES[i % 5], f"{prefix} number {i}") for i in range(count)]


@pytest.mark.parametrize("in_file", [False, True])
def test_pairs_keep_their_order_and_broken_images_are_counted(
    tmp_path: Path, in_file: bool
) -> None:
    noisy, clean = pairs("w", 300), pairs("h", 3)
    broken: Pair = ("broken", b"<html>", "a page")

    corpus = read_corpus(
        [*noisy[:5], broken, *noisy[5:]], clean, 8, tmp_path / "pixels" if in_file else None
    )

    assert corpus.keys == [key for key, _, _ in noisy + clean]
    assert corpus.captions[-1] == "h number 2"
    assert corpus.num_undecodable == 1
    assert corpus.noisy.tolist() == list(range(300))
    expected = read_squares([image for _, image, _ in noisy + clean], 8).numpy()
    assert np.array_equal(corpus.squares, expected)


def test_keys_alone_decide_what_is_held_out() -> None:
    clean = pairs("h", 200)
    corpus = read_corpus(pairs("w", 2), clean, 4)
    fewer = read_corpus([], clean[50:], 4)

    learnt, held_out = corpus.clean(0.25)

    assert sorted([*learnt, *held_out]) == list(range(2, 202))
    assert 30 < len(held_out) < 70
    keys = {corpus.keys[row] for row in held_out}
    assert {fewer.keys[row] for row in fewer.clean(0.25)[1]} == keys & set(fewer.keys)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_clean_pairs_are_refused(count: int) -> None:
    corpus = read_corpus(
        pairs("w", 1), [(key, image, "equal") for key, image, _ in pairs("h", count)], 4
    )

    with pytest.raises(RecipeError, match=r"two or more different captions, got \d+ of \d+ pairs"):
        corpus.clean(0.5)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(RecipeError, match="none that can be decoded and 1 that cannot"):
        read_corpus([("broken", b"", "a page")], [], 4)


def test_the_digest_tells_keys_from_captions() -> None:
    image = encoded(drawing(0))
    one = read_corpus([("a", image, "bc"), ("d", image, "")], [], 4)
    other = read_corpus([("ab", image, "c"), ("", image, "d")], [], 4)

    assert one.digest(one.noisy) != other.digest(other.noisy)
    assert one.digest(one.noisy) == one.digest(np.arange(2))


def test_each_epoch_deals_all_rows_in_an_order_of_its_own() -> None:
    rows = np.arange(10, 17)

    dealt = [batch.tolist() for batch in itertools.islice(batches(rows, 3, seed=1), 6)]

    epochs = [dealt[first] + dealt[first + 1] for first in (0, 2, 4)]
    assert all(len(set(epoch)) == 6 and set(epoch) <= set(rows.tolist()) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert dealt == [batch.tolist() for batch in itertools.islice(batches(rows, 3, seed=1), 6)]
    assert dealt != [batch.tolist() for batch in itertools.islice(batches(rows, 3, seed=2), 6)]
    assert sorted(next(batches(rows, 100, seed=1)).tolist()) == rows.tolist()


def test_equal_captions_have_one_number() -> None:
    numbers = caption_ids(np.array([[1, 2], [3, 4], [1, 2]]))

    assert numbers[0] == numbers[2] != numbers[1]
    assert caption_ids(np.empty((0, 4), np.int64)).tolist() == []
