"""Captions as they come: cleaned, and told apart from what is none."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.rule import RecipeError
from recaption.captioner import FAILURES, Caption
from recaption.checking import Bounds, Checked, clean, fault


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a red shoe", "a red shoe"),
        ("  a\n\n red\tshoe\x00\x1b ", "a red shoe"),
        ("a\u3000red\u00a0shoe\u200b\ufeff", "a red shoe"),
        ("a red \ud800shoe", "a red shoe"),
        ('"a red shoe"', "a red shoe"),
        ("'“a red shoe”'", "a red shoe"),
        ('"Stop" and "Go"', '"Stop" and "Go"'),
        ("the dogs' bowl's", "the dogs' bowl's"),
        ("a family 👨\u200d👩\u200d👧", "a family 👨\u200d👩\u200d👧"),
        ('""', ""),
        ('"', '"'),
    ],
)
def test_a_caption_is_one_line_without_quotes_around_it(text: str, line: str) -> None:
    assert clean(text) == line


@given(st.text(st.characters(codec=None)))
def test_what_is_clean_stays_and_can_be_stored(text: str) -> None:
    line = clean(text)

    assert clean(line) == line
    assert line.encode().decode() == line
    assert line.splitlines() in ([line], [])


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "empty"),
        ("... !", "empty"),
        ("ox", "too_short"),
        ("cat", None),
        ("猫と犬", None),
        (" ".join(map(str, range(1000)))[:1000], None),
        (" ".join(map(str, range(1000)))[:1001], "too_long"),
        ("a very very big dog", None),
        ("a very very very big dog", "repeats"),
        ("New York, New York", None),
        ("a cat and a cat and a cat and a", "repeats"),
        ("a cat and a cat and a dog and a dog", None),
        ("one two three four five six seven eight " * 2, None),
        ("one two three four five six seven eight " * 3, "repeats"),
        ("one two three four five six seven eight nine " * 3, None),
        ("a dog and the cat and the dog and a cat and the dog and a cat and a", None),
        ("a dog and the cat and the dog and a cat and the dog and a cat and a dog", "repeats"),
    ],
)
def test_what_is_no_caption_is_named(text: str, failure: str | None) -> None:
    assert fault(text, Bounds()) == failure
    assert failure is None or failure in FAILURES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_chars", 0),
        ("min_chars", 1001),
        ("max_loops", 0),
        ("longest_loop", 0),
        ("min_distinct_share", 1.5),
        ("judged_words", 0),
    ],
)
def test_bounds_that_cannot_be_are_refused(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}

    with pytest.raises(RecipeError, match=rf"captions\.{name} must be .*, got {value}; correct"):
        Bounds(**settings)


class Fixed:
    """Gives the same captions for every image."""

    spec: Mapping[str, Any] = {"captioner": "fixed"}

    def __init__(self, *captions: Caption) -> None:
        self.captions = list(captions)

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        del keys
        return [self.captions for _ in images]


def test_each_draw_is_there_once_clean_or_failed() -> None:
    fixed = Fixed(
        Caption("  too many ", 7),
        Caption('"a  dog"', 2, logprob=-3.0, tokens=4, finish="stop"),
        Caption("half of it", 1, failure="timeout"),
        Caption("no no no", 3),
    )

    captions = Checked(fixed, 4, Bounds()).caption([b"1", b"2"], ["1", "2"])

    assert (
        captions
        == [
            [
                Caption("", 0, failure="empty"),
                Caption("", 1, failure="timeout"),
                Caption("a dog", 2, logprob=-3.0, tokens=4, finish="stop"),
                Caption("", 3, failure="repeats"),
            ]
        ]
        * 2
    )


def test_the_bounds_are_part_of_a_captions_provenance() -> None:
    spec = Checked(Fixed(), 1, Bounds(max_chars=50)).spec

    assert spec["captioner"] == "fixed"
    assert spec["bounds"]["max_chars"] == 50
