"""Captions: drawn by weight among those that a sample has."""

from collections import Counter

import pytest

from filters.parsing import build
from filters.rule import RecipeError
from train.mixing import Captions

STEPS = 10_000


def drawn(captions: Captions, texts: list[list[str]]) -> Counter[str]:
    return Counter(captions.draw(texts, (step + 0.5) / STEPS) for step in range(STEPS))


def test_kinds_are_drawn_as_often_as_they_weigh() -> None:
    captions = Captions(weights={"raw": 3, "synthetic": 1, "chosen": 0})

    assert captions.names == ("raw", "synthetic")
    assert drawn(captions, [["a"], ["b"]]) == {"a": 7500, "b": 2500}


def test_what_is_missing_leaves_its_share_to_the_others() -> None:
    captions = Captions(weights={"raw": 2, "synthetic": 1, "alt": 1})

    assert captions.names == ("alt", "raw", "synthetic")
    assert drawn(captions, [[], ["a"], ["b"]]) == {"a": 6667, "b": 3333}
    assert drawn(captions, [[], [], ["b"]]) == {"b": STEPS}


def test_each_of_several_texts_is_as_likely() -> None:
    captions = Captions(weights={"raw": 1, "synthetic": 1})

    assert drawn(captions, [["a"], ["b", "c", "d", "e"]]) == {"a": 5000} | dict.fromkeys(
        "bcde", 1250
    )


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-32])
def test_the_ends_of_chance_draw_something(chance: float) -> None:
    captions = Captions(weights={"a": 0.1, "b": 0.2, "c": 0.3})

    assert captions.draw([["a"], ["b"], ["c"]], chance) in "abc"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"pairs": "some"}, "captions.pairs must be chosen, kept, all, got 'some'"),
        ({"weights": {"raw": -1}}, "captions.weights.raw must be 0 or more, got -1"),
        ({"weights": {"raw": 0}}, "captions.weights must have a weight above 0, got none"),
        ({"weights": {"raw": "1"}}, "captions.weights.raw must be a number, got '1'"),
    ],
)
def test_what_cannot_be_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(Captions, table, "captions", "test")
