"""Recipes: what is wrong is said in one sentence, before any work."""

import os
import subprocess
import sys
from typing import Any

import pytest

from filters.language import Language
from filters.parsing import from_dict, parse
from filters.recipe import Embedding, Images, Recipe, Tables
from filters.rule import RecipeError
from filters.shorter_side import ShorterSide
from filters.token_count import TokenCount

TEXT = """
name = "mine"
[tables]
max_ngrams = 1000
[columns]
caption = "my_alt"
[rules.token_count]
min_inclusive = 3
[rules.language]
keep = ["en", "de"]
max_other_score_exclusive = 0.5
"""


def refusal(text: str, *changes: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.toml", changes)
    return str(caught.value)


def test_reads_every_part() -> None:
    assert parse(TEXT, "r.toml") == Recipe(
        name="mine",
        tables=Tables(max_ngrams=1000),
        columns={"caption": "my_alt"},
        rules=(
            TokenCount(min_inclusive=3),
            Language(keep=("en", "de"), max_other_score_exclusive=0.5),
        ),
    )


def test_rules_are_judged_in_the_order_of_the_text() -> None:
    text = 'name = "x"\n[rules.token_count]\n[rules.shorter_side]\n[rules.char_count]'

    assert [rule.name for rule in parse(text, "r.toml").rules] == [
        "token_count",
        "shorter_side",
        "char_count",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'name = "x"\n[rules.shorter_side]\nmin_exclusiv = 200',
            "rules.shorter_side.min_exclusiv must be a known key, got an unknown one in recipe "
            "r.toml; did you mean min_exclusive?",
        ),
        (
            'name = "x"\nrulez = 1',
            "rulez must be a known key, got an unknown one in recipe r.toml; did you mean rules?",
        ),
        (
            'name = "x"\n[tables]\nzzz = 1',
            "tables.zzz must be a known key, got an unknown one in recipe r.toml; the keys are "
            "max_ngrams, hash_seed",
        ),
        (
            'name = "x"\n[rules.shorter_side]\nmin_exclusive = "200"',
            "rules.shorter_side.min_exclusive must be a number, got '200' (str) in recipe r.toml; "
            "correct it",
        ),
        (
            'name = "x"\n[rules.shorter_side]\nmin_exclusive = true',
            "rules.shorter_side.min_exclusive must be a number, got True (bool) in recipe r.toml; "
            "correct it",
        ),
        (
            'name = "x"\n[rules.shorter_side]\nmin_exclusive = nan',
            "rules.shorter_side.min_exclusive must be a number, got nan (float) in recipe r.toml; "
            "correct it",
        ),
        (
            'name = "x"\n[tables]\nmax_ngrams = true',
            "tables.max_ngrams must be a whole number, got True (bool) in recipe r.toml; "
            "correct it",
        ),
        (
            'name = "x"\n[tables]\nmax_ngrams = 1.0',
            "tables.max_ngrams must be a whole number, got 1.0 (float) in recipe r.toml; "
            "correct it",
        ),
        (
            f'name = "x"\n[tables]\nmax_ngrams = {2**63}',
            "tables.max_ngrams must be a number below 2^63, got 9223372036854775808 (int) in "
            "recipe r.toml; correct it",
        ),
        (
            'name = "x"\nmaterialise = 1',
            "materialise must be true or false, got 1 (int) in recipe r.toml; correct it",
        ),
        (
            "name = 7",
            "name must be a string, got 7 (int) in recipe r.toml; correct it",
        ),
        (
            'name = "x"\n[rules.language]\nkeep = "en"\nmax_other_score_exclusive = 0.5',
            "rules.language.keep must be a list, got 'en' (str) in recipe r.toml; correct it",
        ),
        (
            'name = "x"\n[rules.language]\nkeep = ["en", 7]\nmax_other_score_exclusive = 0.5',
            "rules.language.keep[1] must be a string, got 7 (int) in recipe r.toml; correct it",
        ),
        (
            'name = "x"\ncolumns = "alt"',
            "columns must be a table, got 'alt' (str) in recipe r.toml; correct it",
        ),
        (
            'name = "x"\n[columns]\ncaption = 7',
            "columns.caption must be a string, got 7 (int) in recipe r.toml; correct it",
        ),
        (
            'name = "x"\nrules = ["shorter_side"]',
            "rules must be a table per rule, got ['shorter_side'] (list) in recipe r.toml; "
            "correct it",
        ),
        (
            'name = "x"\n[rules]\nshorter_side = 200',
            "rules.shorter_side must be a table, got 200 (int) in recipe r.toml; correct it",
        ),
        (
            f'name = "x"\ntables = "{"z" * 90}"',
            f"tables must be a table, got '{'z' * 59}... (str) in recipe r.toml; correct it",
        ),
        (
            'name = "x"\n[rules.shorter_side]\nmin_inclusive = 1\nmin_exclusive = 1',
            "rules.shorter_side must set one of min_inclusive and min_exclusive, got both; "
            "remove one",
        ),
        (
            'name = "x"\n[rules.shorterside]',
            "rules.shorterside must name a rule, got no class Shorterside in "
            "filters/shorterside.py, in recipe r.toml; correct the name or write that file",
        ),
        (
            'name = "x"\n[rules.recipe]',  # a module with a class of that name, but no rule
            "rules.recipe must name a rule, got no class Recipe in filters/recipe.py, in recipe "
            "r.toml; correct the name or write that file",
        ),
        (
            'name = "x"\n[rules.rule]',
            "rules.rule must name a rule, got no class Rule in filters/rule.py, in recipe r.toml; "
            "correct the name or write that file",
        ),
        (
            'name = "x"\n[rules."../shorter_side"]',
            "rules.../shorter_side must name a rule, got no class ../shorterSide in "
            "filters/../shorter_side.py, in recipe r.toml; correct the name or write that file",
        ),
        (
            'name = "x"\n[rules.language]',
            "rules.language.max_other_score_exclusive must be set, got nothing in recipe r.toml; "
            "add it",
        ),
        (
            "",
            "name must be set, got nothing in recipe r.toml; add it",
        ),
        (
            "name = ",
            "recipe r.toml must be TOML, got: Invalid value (at end of document); "
            "correct that line",
        ),
    ],
)
def test_says_what_is_wrong_and_what_to_do(text: str, sentence: str) -> None:
    assert refusal(text) == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("rules.token_count", "--set must be KEY=VALUE, got 'rules.token_count'; write KEY=VALUE"),
        ("=3", "--set must be KEY=VALUE, got '=3'; write KEY=VALUE"),
        ("name.first=x", "--set name.first must lie in a table, got a value at name; drop it"),
        (
            "rules.token_count.max=20",
            "rules.token_count.max must be a known key, got an unknown one in recipe r.toml; the "
            "keys are min_inclusive, min_exclusive, max_inclusive, max_exclusive",
        ),
    ],
)
def test_says_what_is_wrong_with_a_change(change: str, sentence: str) -> None:
    assert refusal(TEXT, change) == sentence


def test_changes_lie_over_the_text() -> None:
    changes = (
        "rules.token_count.min_inclusive=4",
        "rules.shorter_side.min_exclusive = 200.5",
        'rules.language.keep=["fr"]',
        "name=yours",
        "images.decode=false",
        "columns.url=a=b",
    )

    assert parse(TEXT, "r.toml", changes) == Recipe(
        name="yours",
        tables=Tables(max_ngrams=1000),
        images=Images(decode=False),
        columns={"caption": "my_alt", "url": "a=b"},
        rules=(
            TokenCount(min_inclusive=4),
            Language(keep=("fr",), max_other_score_exclusive=0.5),
            ShorterSide(min_exclusive=200.5),
        ),
    )


def test_a_recipe_survives_being_written_down() -> None:
    recipe = parse(TEXT, "r.toml")

    assert from_dict(recipe.as_dict(), "manifest") == recipe


def test_what_is_written_down_has_the_defaults_filled_in() -> None:
    plain = parse(TEXT, "r.toml").as_dict()

    images = {"decode": True, "max_pixels": 178_956_970, "hashes": "when_needed"}
    images |= {"for_recaption": False}
    assert plain["images"] == images
    assert plain["rules"] == {
        "token_count": {"min_inclusive": 3},
        "language": {"keep": ("en", "de"), "max_other_score_exclusive": 0.5},
    }


def test_the_digest_is_the_same_in_another_process() -> None:
    code = f"from filters.parsing import parse; print(parse({TEXT!r}, 'elsewhere').digest)"
    others = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert others == [parse(TEXT, "r.toml").digest] * 2


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (TEXT + "# a comment", True),
        (TEXT.replace("min_inclusive = 3", "min_inclusive = 4"), False),
        (TEXT.replace("min_inclusive = 3", "min_exclusive = 3"), False),
        (TEXT.replace("mine", "yours"), False),
    ],
)
def test_the_digest_tells_recipes_apart(other: str, same: bool) -> None:
    assert (parse(other, "r.toml").digest == parse(TEXT, "r.toml").digest) is same


def test_the_order_of_rules_counts_for_the_digest() -> None:
    a, b = "[rules.token_count]\n", "[rules.char_count]\n"
    one, other = (parse(f'name = "x"\n{rules}', "r.toml") for rules in (a + b, b + a))

    assert one.digest != other.digest


@pytest.mark.parametrize("number", [1, 2**32 - 2])
def test_a_rank_fits_into_the_tables(number: int) -> None:
    recipe = parse(f'name = "x"\n[tables]\nmax_ngrams = {number}', "r.toml")

    assert recipe.tables.max_ngrams == number


@pytest.mark.parametrize("number", [-1, 0, 2**32 - 1])
def test_a_rank_that_does_not_fit_into_the_tables_is_refused(number: int) -> None:
    with pytest.raises(RecipeError) as error:
        parse(f'name = "x"\n[tables]\nmax_ngrams = {number}', "r.toml")

    assert str(error.value) == (
        f"tables.max_ngrams must be from 1 to 4,294,967,294, got {number:,}; correct it"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'name = "x"\n[images]\nmax_pixels = 0',
            "images.max_pixels must be 1 or more, got 0; correct it",
        ),
        (
            'name = "x"\nmax_drop_share = 1.5',
            "max_drop_share must be from 0 to 1, got 1.5; correct it",
        ),
    ],
)
def test_a_number_out_of_its_range_is_named(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.toml")

    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size_px": 0}, "embedding.size_px must be from 1 to 4,096, got 0; correct it"),
        ({"size_px": 4097}, "embedding.size_px must be from 1 to 4,096, got 4,097; correct it"),
        ({"mean": (0.5,)}, "embedding.mean must be three numbers, .* got \\[0.5\\]; correct it"),
        ({"std": (1.0, 0.0, 1.0)}, "those of std above 0, got \\[1.0, 0.0, 1.0\\]; correct it"),
    ],
)
def test_an_embedding_that_cannot_be_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Embedding(**values)


def test_an_embedding_may_be_small_large_or_dark() -> None:
    sizes = [Embedding(size_px=size).size_px for size in (1, 4096)]

    assert sizes == [1, 4096]
    assert Embedding(mean=(0.0, 0.0, 0.0)).mean == (0.0, 0.0, 0.0)
