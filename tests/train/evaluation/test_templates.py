"""Templates: CLIP's, by their grammar, and the user's own."""

from pathlib import Path

import pytest

from filters.rule import RecipeError
from train.evaluation.templates import CLIP, SEVEN, fill, open_templates, parse_templates


def test_the_grammar_gives_the_eighty_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip", reason="a test-only dependency")

    theirs = {template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES}

    assert set(CLIP) == theirs
    assert len(CLIP) == 80


def test_the_seven_are_those_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip", reason="a test-only dependency")

    theirs = {template("{}") for template in open_clip.SIMPLE_IMAGENET_TEMPLATES}

    assert set(SEVEN) == theirs
    assert set(SEVEN) <= set(CLIP)


def test_templates_of_the_user_may_be_written_as_clip_benchmark_writes_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("a {c} on a table.\n\n{} at night, 100%\n", encoding="utf-8")

    assert open_templates(str(file)) == ("a {} on a table.", "{} at night, 100%")


def test_a_name_with_braces_stays_as_it_is() -> None:
    assert fill(["a {} here"], "{x}") == ["a {x} here"]


@pytest.mark.parametrize("text", ["", "\n", "a photo\n"])
def test_a_template_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"must have \{\} for the class"):
        parse_templates(text, "mine.txt")


def test_an_unknown_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="clip, seven, simple or a text file, got"):
        open_templates(str(tmp_path / "nine"))
