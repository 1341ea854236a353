"""Recipes of training: what is wrong is said in one sentence, before any work."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError
from train.settings import read_settings, settings_of

FOLDER = Path(__file__).parents[2] / "train" / "recipes"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_read_and_bears_the_name_of_its_file(name: str) -> None:
    assert read_settings(name).name == name


def test_align_has_the_numbers_of_the_paper() -> None:
    settings = read_settings("align")

    assert (settings.steps, settings.batch) == (1_200_000, 16_384)
    assert (settings.model.image_px, settings.loader.images.resize_px) == (289, 346)
    assert (settings.model.max_tokens, settings.vocabulary.size) == (64, 100_000)
    assert (settings.model.temperature, settings.loss.smoothing) == (1.0, 0.1)
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.decay) == ("lamb", "linear")
    assert (optimizer.learning_rate, optimizer.weight_decay) == (1e-3, 1e-5)
    assert optimizer.warmup_steps == 10_000


def test_changes_lie_over_a_preset() -> None:
    settings = read_settings("vit-b16", ["optimizer.name=lamb", "batch=512", "loader.threads=3"])

    assert (settings.optimizer.name, settings.batch, settings.loader.threads) == ("lamb", 512, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_what_decides_a_run_makes_the_same_settings_again(name: str) -> None:
    settings = read_settings(name, ["checkpoints.keep=7", "loader.threads=9"])

    again = settings_of({"name": name, **settings.deciding()}, "a checkpoint")

    assert again.deciding() == settings.deciding() == read_settings(name).deciding()
    assert (again.checkpoints.keep, again.loader.threads) != (7, 9)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("optimizer.learning_rate=-1", "optimizer.learning_rate must be above 0, got -1"),
        ("optimizer.lr=1e-3", "optimizer.lr must be a known key"),
        ("model.vocabulary=100", "model.vocabulary must not be named"),
        ("model=7", "model must be a table, got 7"),
        ("steps=0", "steps must be 1 or more, got 0"),
        ("steps=10", "steps must be optimizer.warmup_steps or more, 500, got 10"),
        ("batch=1", "batch must be 2 or more, got 1"),
        ("microbatch=-1", "microbatch must be 0 or more, got -1"),
        ("clip_norm=-0.5", "clip_norm must be 0 or more, got -0.5"),
        ("distribution=zero", "distribution must be one of ddp, fsdp, got 'zero'"),
        ("seed=-1", "seed must be from 0 to 2^32 - 1, got -1"),
        ("loss.smoothing=1.0", "loss.smoothing must be from 0 to below 1, got 1.0"),
        ("vocabulary.words=all", "vocabulary.words must be one of captions, tables, got 'all'"),
        ("validation.held_out_share=1.0", "validation.held_out_share must be from 0 to below 1"),
        ("validation.pairs=1", "validation.pairs must be 2 or more, got 1"),
        ("validation.every_steps=0", "validation.every_steps must be 1 or more, got 0"),
        ("checkpoints.every_steps=0", "checkpoints.every_steps must be 1 or more, got 0"),
        ("checkpoints.keep=0", "checkpoints.keep must be 1 or more, got 0"),
        ("log.every_steps=0", "log.every_steps must be 1 or more, got 0"),
        ("captions.pairs=best", "captions.pairs must be chosen, kept, all"),
        ("loader.max_bad_share=2.0", "loader.max_bad_share must be from 0 to 1"),
    ],
)
def test_what_is_wrong_is_said(change: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        read_settings("vit-b16", [change])


def test_an_unknown_recipe_is_told_the_presets() -> None:
    with pytest.raises(RecipeError, match=r"must be a preset \(align.*\) or a TOML file"):
        read_settings("alinn")
