"""Presets: each agrees with what was published, on both sides of each bound."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from filters.parsing import parse
from filters.recipe import Recipe

FOLDER = Path(__file__).parents[2] / "pipelines" / "recipes"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.toml"))

PUBLISHED: dict[str, dict[str, list[tuple[Any, bool]]]] = {
    # Section 3: "shorter dimension is larger than 200 pixels", "aspect ratio is smaller than 3",
    # "more than 1000 associated alt-texts", "shared by more than 10 images", "<3 unigrams",
    # ">20 unigrams", "outside of 100 million most frequent unigrams and bigrams".
    "align": {
        "shorter_side": [(199, False), (200, False), (201, True)],
        "aspect_ratio": [(1.0, True), (2.999, True), (3.0, False), (3.001, False)],
        "texts_per_image": [(1, True), (1000, True), (1001, False)],
        "images_per_text": [(1, True), (10, True), (11, False)],
        "token_count": [(2, False), (3, True), (20, True), (21, False)],
        "ngram_rank": [(1, True), (100_000_000, True), (100_000_001, False)],
        "language": [(("en", 0.1), True), (("de", 0.49), True), (("de", 0.5), False)],
        "nsfw_score": [(0.5, True), (0.501, False)],
        "pdq_distance": [(31, False), (32, True)],
    },
    # CC3M section 3: "both dimensions are greater than 400 pixels", "no more than 2"; CC12M:
    # "between 3 and 256 words", "maximum fraction of word repetition allowed to 0.2".
    "conceptual-captions": {
        "shorter_side": [(399, False), (400, False), (401, True)],
        "aspect_ratio": [(1.0, True), (2.0, True), (2.001, False), (2.5, False)],
        "word_count": [(2, False), (3, True), (256, True), (257, False)],
        "capitalisation": [("a red Dog", False), ("A Red dog", False), ("A red dog", True)],
        "repetition": [("one two three one four", True), ("one two one four", False)],
        "boilerplate": [
            ("Embedded image permalink", False),
            ("Profile photo of Ann", False),
            ("Ann, profile photo", False),
            ("Ann's profile photo at sea", True),
            ("stock photo of a dog", True),
        ],
        "language": [(("en", 0.1), True), (("de", 0.49), True), (("de", 0.5), False)],
        "nsfw_score": [(0.5, True), (0.501, False)],
    },
    # README, "Data Filtering": "Less than 5KB", "aspect ratio greater than 3.0",
    # "min(width, height) < 200", "higher than 0.5", "a length of 5 or less", "less than 3 words or
    # more than 256 words", "appearing more than 10 times".
    "coyo": {
        "image_bytes": [(4999, False), (5000, True)],
        "aspect_ratio": [(1.0, True), (3.0, True), (3.001, False)],
        "shorter_side": [(199, False), (200, True)],
        "nsfw_score": [(0.5, True), (0.501, False)],
        "language": [(("en", 0.1), True), (("de", 0.1), False)],
        "char_count": [(5, False), (6, True), (1000, True), (1001, False)],
        "word_count": [(2, False), (3, True), (256, True), (257, False)],
        "images_per_text": [(10, True), (11, False)],
        "duplicate": [("0" * 32, False)],
    },
    # baselines/apply_filter.py: fasttext_lang_pred == "en", caption_num_words > 2,
    # caption_num_chars > 5, min_image_dim >= 200, aspect_ratio <= 3.0.
    "datacomp-basic": {
        "language": [(("en", 0.1), True), (("de", 0.1), False)],
        "word_count": [(2, False), (3, True), (10_000, True)],
        "char_count": [(5, False), (6, True), (10_000, True)],
        "shorter_side": [(199, False), (200, True)],
        "aspect_ratio": [(1.0, True), (3.0, True), (3.001, False)],
    },
    # "less than 5 characters alt-text length or less than 5 KB image size are dropped", "similarity
    # below 0.28 for the English language", "Duplicate removal [...] based on URL".
    "laion": {
        "char_count": [(4, False), (5, True), (10_000, True)],
        "image_bytes": [(4999, False), (5000, True)],
        "pixel_count": [((89_478_484, 1), True), ((89_478_485, 1), False)],  # its crawler's
        "language": [(("en", 0.1), True), (("de", 0.1), False)],
        "clip_score": [(0.279, False), (0.28, True)],
        "duplicate": [("0" * 32, False)],
    },
}


def preset(name: str) -> Recipe:
    return parse((FOLDER / f"{name}.toml").read_text(), name)


def test_every_preset_is_held_against_its_source() -> None:
    assert sorted(PUBLISHED) == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_bears_the_name_of_its_file(name: str) -> None:
    assert preset(name).name == name


@pytest.mark.parametrize("name", PRESETS)
def test_the_rules_come_in_the_order_given(name: str) -> None:
    assert [rule.name for rule in preset(name).rules] == list(PUBLISHED[name])


@pytest.mark.parametrize(
    ("name", "rule_name"), [(name, rule) for name in PRESETS for rule in PUBLISHED[name]]
)
def test_both_sides_of_each_bound_are_as_published(name: str, rule_name: str) -> None:
    rule = next(rule for rule in preset(name).rules if rule.name == rule_name)
    values, keep = zip(*PUBLISHED[name][rule_name], strict=True)
    columns = zip(*values, strict=True) if isinstance(values[0], tuple) else [values]
    arrays = [pa.array(column) for column in columns]
    several = {"language": ["language", "language_score"], "pixel_count": ["width", "height"]}
    names = several.get(rule_name, [rule.column])

    assert rule(pa.record_batch(arrays, names=names)).is_null().to_pylist() == list(keep)


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_says_where_it_comes_from(name: str) -> None:
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()

    assert [line for line in lines if re.match(r"\w+ = -?\d[\d_.]*\s*$", line)] == []
