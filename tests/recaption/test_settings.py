"""Recipes of recaptioning: what is wrong is said in one sentence, before any work."""

import re
from pathlib import Path

import pytest

from filters.rule import RecipeError
from recaption.settings import read_settings

FOLDER = Path(__file__).parents[2] / "recaption" / "recipes"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_read_and_bears_the_name_of_its_file(name: str) -> None:
    assert read_settings(name).name == name


@pytest.mark.parametrize("name", PRESETS)
def test_changes_lie_over_a_preset(name: str) -> None:
    settings = read_settings(name, ["decode.top_p=0.5", "choose.rule=theory", "seed=7"])

    assert (settings.decode.top_p, settings.choose.rule) == (0.5, "theory")
    assert settings.seed == 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("decode.stategy=greedy", "decode.stategy must be a known key"),
        ("decode.top_p=1.5", "decode.top_p must be in (0, 1]"),
        ("model.vocabulary=100", "model.vocabulary must not be named"),
        ("model=7", "model must be a table, got 7"),
        ("pretrain.batch=1", "pretrain.batch must be 2 or more"),
        ("choose.rule=best", "choose.rule must be capfilt, theory"),
        ("of_kept=1", "of_kept must be true or false, got 1"),
        ("calibration.precision=1.0", "calibration.precision must be above 0 and below 1"),
        ("server.attempts=0", "server.attempts must be at least 1"),
    ],
)
def test_what_is_wrong_is_said(change: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        read_settings("blip-base", [change])


def test_an_unknown_recipe_is_told_the_presets() -> None:
    with pytest.raises(RecipeError, match=r"must be a preset \(blip-base.*\) or a TOML file"):
        read_settings("blib-base")
