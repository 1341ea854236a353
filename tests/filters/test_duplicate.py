"""Duplicate: one pair of each group stays."""

from typing import Any

import pyarrow as pa
import pytest

from filters.duplicate import Duplicate
from filters.recipe import Recipe
from filters.rule import RecipeError

UID = "0f" * 16


@pytest.mark.parametrize(("duplicate_of", "reason"), [(None, None), (UID, "duplicate.copy")])
def test_a_row_goes_if_another_one_stays_in_its_place(
    duplicate_of: str | None, reason: str | None
) -> None:
    batch = pa.record_batch({"duplicate_of": pa.array([duplicate_of], pa.string())})

    assert Duplicate()(batch).to_pylist() == [reason]
    assert Duplicate().shown(batch).to_pylist() == [duplicate_of]


@pytest.mark.parametrize(
    ("fields", "near", "of_pairs", "max_distance"),
    [
        ({}, False, True, 31),
        ({"same": "image"}, False, False, 31),
        ({"same": "near_image"}, True, False, 31),
        ({"same": "near_pair", "max_distance_inclusive": 4}, True, True, 4),
        ({"same": "near_pair", "hash": "phash", "max_distance_inclusive": 0}, True, True, 0),
    ],
)
def test_what_is_the_same_is_a_matter_of_images_texts_and_distance(
    fields: dict[str, Any], near: bool, of_pairs: bool, max_distance: int
) -> None:
    rule = Duplicate(**fields)

    assert (rule.near, rule.of_pairs, rule.max_distance) == (near, of_pairs, max_distance)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"same": "images"},
            "rules.duplicate.same must be pair, image, near_pair, near_image, got 'images'; "
            "correct it",
        ),
        (
            {"hash": "dhash"},
            "rules.duplicate.hash must be pdq, phash, got 'dhash'; correct it",
        ),
        (
            {"keep": "best"},
            "rules.duplicate.keep must be largest_image, best_score, first, got 'best'; correct it",
        ),
        (
            {"same": "near_image", "hash": "phash"},
            "rules.duplicate.max_distance_inclusive must be set for phash, got nothing; add it, "
            "such as 0 for equal hashes",
        ),
        (
            {"same": "image", "max_distance_inclusive": 3},
            "rules.duplicate.max_distance_inclusive must have near images to bound, got same = "
            "'image'; leave it out, or set same to near_image",
        ),
        (
            {"same": "near_pair", "hash": "phash", "max_distance_inclusive": 16},
            "rules.duplicate.max_distance_inclusive must be from 0 to 15, got 16; correct it",
        ),
        (
            {"same": "near_image", "max_distance_inclusive": -1},
            "rules.duplicate.max_distance_inclusive must be from 0 to 63, got -1; correct it",
        ),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as refused:
        Duplicate(**fields)

    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("same", "hashing"),
    [("pair", False), ("image", False), ("near_pair", True), ("near_image", True)],
)
def test_hashes_are_measured_where_near_images_are_looked_for(same: str, hashing: bool) -> None:
    rule = Duplicate(same=same)
    recipe = Recipe(name="test", rules=(rule,))

    assert (recipe.hashing, recipe.duplicate, recipe.row_rules) == (hashing, rule, ())
    assert not Recipe(name="test").hashing
