"""A run learns what its pairs show, and its evaluation says so, from the command line alone."""

import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

from recaption.files import read_json
from tests.shards import write_tar
from tests.train.evaluation.colours import COLOURS, picture, write_folders
from tests.train.runs import RECIPE, losses
from train.__main__ import main

PAIRS = 40
"""Of each colour."""


def test_colours_are_told_apart_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    members = []
    for number in range(PAIRS * len(COLOURS)):
        colour = list(COLOURS)[number % len(COLOURS)]
        members.append((f"{number:05d}.png", picture(colour, noise=number % 60, side=20)))
        members.append((f"{number:05d}.txt", f"a {colour} square".encode()))
    write_tar(tmp_path / "shards" / "00000.tar", members)
    folders = write_folders(tmp_path / "squares", list(COLOURS), each=5)
    (tmp_path / "templates.txt").write_text("a {} square")
    run = tmp_path / "run"
    settings = ("steps=60", "batch=32", "loss.mask_duplicates=true", "validation.every_steps=60")
    changes = [part for one in settings for part in ("--set", one)]

    where = ["--data", str(tmp_path / "shards"), "--out", str(run)]
    assert main(["run", str(tmp_path / "tiny.toml"), *where, *changes]) == 0
    on = f"zero-shot:{folders},templates={tmp_path / 'templates.txt'}"
    assert main(["evaluate", str(run), "--on", on]) == 0

    told = losses(run)
    assert told[60] < 2 * math.log(len(COLOURS)) < told[1]  # the middle one is that of chance
    found = read_json(run / "evaluation" / "squares_zeroshot_classification.json")
    assert found["metrics"]["acc1"] > 0.9  # chance is a sixth
    assert f"report: {run}/report/index.html" in capsys.readouterr().out
