"""A plan names every command once, in an order that works; arms share what they can."""

import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")

import pipelines.arguments
import recaption.arguments
import train.arguments
from filters.rule import RecipeError
from train.experiments.evidence.execute import execute, typed
from train.experiments.evidence.grid import ARMS, Cell, Grid, read_grid
from train.experiments.evidence.plan import Command, places, plan

OUT = Path("out/evidence")


def grid(**changes: Any) -> Grid:
    cells = (Cell(partner=0.4, clean=400), Cell(partner=0.2, clean=400))
    return Grid(**({"name": "one", "seeds": (0, 1), "cells": cells} | changes))


def words_of(commands: list[Command], name: str) -> str:
    return typed(next(command for command in commands if command.name.endswith(name)))


@pytest.mark.parametrize("name", ["default", "large", "ablations", "images"])
def test_every_command_of_a_grid_is_understood_and_comes_after_what_it_needs(name: str) -> None:
    parsers = {
        package.__name__.partition(".")[0]: package.parser()
        for package in (pipelines.arguments, recaption.arguments, train.arguments)
    }
    commands, before = plan(read_grid(name), OUT), set[str]()

    for command in commands:
        assert before.issuperset(command.needs), command
        before.add(command.name)
        package, *rest = command.words
        if package != "cp":
            parsers[package].parse_args(rest)
    assert len(before) == len(commands)


def test_the_arms_differ_in_their_captions_alone() -> None:
    commands = plan(grid(seeds=(0,), arms=tuple(ARMS)), OUT)
    differing = ("captions.", OUT.name)

    left = []
    for arm in ARMS:
        words = shlex.split(words_of(commands, f"train {places(grid(), OUT)[0].run(arm)}"))
        left.append([w for w in words if "=" in w and not w.startswith(differing)])

    assert all(one == left[0] for one in left)
    assert len({words_of(commands, f"/{arm}") for arm in ARMS}) == len(ARMS)


def test_every_arm_has_the_clean_set() -> None:
    commands = plan(grid(arms=tuple(ARMS)), OUT)
    trained = [c for c in commands if c.words[:2] == ("train", "run") and c.name != "vocabulary"]

    assert all(any("clean400-seed" in word for word in command.words) for command in trained)
    assert all(any("vocab.txt" in word for word in command.words) for command in trained)


def test_cells_of_one_clean_set_share_the_arms_that_learn_no_raw_caption() -> None:
    first, second = places(grid(seeds=(0,)), OUT)

    assert first.run("clean") == second.run("clean")
    assert first.run("h-only") == second.run("h-only")
    assert first.run("raw") != second.run("raw")
    commands = plan(grid(seeds=(0,)), OUT)
    trained = [c.name for c in commands if c.name.startswith("train ")]
    assert len(trained) == 8 + 6


def test_corpora_of_images_share_no_picture() -> None:
    cells = (Cell(partner=0.4, foreign=0, clean=400), Cell(partner=0.4, foreign=0, clean=100))
    commands = plan(grid(images="photos", rows=0, test_rows=0, cells=cells), OUT)

    sampled = [typed(command) for command in commands if command.words[1] == "sample"]
    assert len(sampled) == 1 + 2 * 3
    assert all("--images photos" in words and "--size" not in words for words in sampled)
    for words in sampled:
        test, noisy = "corpora/test" in words, "--noise" in words
        assert ("--part test" in words) == test
        assert ("--skip 400" in words) == noisy
        assert ("--rows" in words) == (not test and not noisy)
        assert test or "--seed 0 " in words or "--seed 1 " in words
    assert "foreign" not in " ".join(sampled)


def test_every_kind_of_caption_is_chosen_by_its_own_rule() -> None:
    commands = plan(grid(seeds=(0,), arms=("recaptioned", "theory", "capfilt")), OUT)

    chosen = f"choose {places(grid(), OUT)[0].home}/captions"
    assert "choose.raw_top_share=0" in words_of(commands, f"{chosen}/recaptioned")
    assert "choose.rule=theory" in words_of(commands, f"{chosen}/theory")
    assert len([c for c in commands if c.words[:2] == ("recaption", "run")]) == 2


def test_an_arm_that_needs_no_captions_has_none_written() -> None:
    commands = plan(grid(arms=("raw", "rules", "h-only", "clean")), OUT)

    assert not [command for command in commands if command.words[0] == "recaption"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": ()}, "seeds must be different seeds, one or more"),
        ({"seeds": (1, 1)}, "seeds must be different seeds"),
        ({"arms": ("raw", "dirty")}, "arms must be different ones of raw, h-only"),
        ({"cells": ()}, "cells must be different"),
        ({"rows": 0}, "rows must be 100 or more, or 0 of images, got 0"),
        ({"changes": {"filter": ()}}, "changes must be of train and recaption"),
    ],
)
def test_a_wrong_grid_is_told_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        grid(**changes)


def test_too_much_noise_and_an_unknown_grid_are_told_in_a_sentence() -> None:
    with pytest.raises(RecipeError, match=r"cells\.partner must be so low that all noise is 1"):
        Cell(partner=0.8, clean=400)
    with pytest.raises(RecipeError, match="grid nowhere must be default, large, ablations, images"):
        read_grid("nowhere")


def copies(folder: Path) -> list[Command]:
    (folder / "a").mkdir(parents=True, exist_ok=True)
    (folder / "a" / "file").write_text("1")
    words = [("cp", "-R", f"{folder / one}/.", str(folder / two)) for one, two in ("ab", "bc")]
    return [Command("copy b", words[0]), Command("copy c", words[1], ("copy b",))]


def test_commands_run_in_order_and_what_has_ended_is_not_run_again(tmp_path: Path) -> None:
    said: list[str] = []
    execute(copies(tmp_path), tmp_path, 2, said.append)
    assert (tmp_path / "c" / "file").exists()
    (tmp_path / "c" / "file").unlink()

    execute(copies(tmp_path), tmp_path, 2, said.append)

    assert [line[:5] for line in said] == ["[1/2]", "[2/2]", "2 of "]
    assert not (tmp_path / "c" / "file").exists()
    (tmp_path / "done" / "copy-c.json").unlink()  # as if it had been killed
    execute(copies(tmp_path), tmp_path, 2, said.append)
    assert (tmp_path / "c" / "file").exists()


def test_a_command_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    words = ("train", "evaluate", str(tmp_path / "none"), "--on", f"planted:{tmp_path}")
    command = Command("test none", words)

    with pytest.raises(RecipeError, match=r"python -m train evaluate .* must end well, got exit"):
        execute([command], tmp_path, 1, lambda _: None)
    assert not (tmp_path / "done").exists()
