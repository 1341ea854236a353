"""A run from a recipe to checkpoints: killed, in several processes, and with what is wrong."""

import shutil
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

from recaption.files import read_json  # noqa: E402
from tests.train.runs import (  # noqa: E402
    PATIENCE_S,
    TWO,
    arguments,
    ended,
    losses,
    prepare,
    started,
    validations,
)
from train.__main__ import main  # noqa: E402
from train.checkpoints import Checkpoints, read_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe, shards, and `whole`, a run in a process of its own."""
    home = prepare(tmp_path_factory.mktemp("runs") / "home")
    assert "step 10 of 10: loss" in ended(started(arguments(home, "whole")))
    return home


@pytest.fixture
def fresh(home: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder with its run."""
    shutil.copytree(home, tmp_path / "home")
    return tmp_path / "home"


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = read_checkpoint(Checkpoints(run / "checkpoints").path(step))
    return stored["model"]


def test_a_run_leaves_what_the_readme_says(home: Path) -> None:
    run = home / "whole"

    assert sorted(path.name for path in run.iterdir()) == [
        *("checkpoints", "index", "metrics.jsonl", "report", "run.json", "tensorboard"),
        "vocab.txt",
    ]
    story = read_json(run / "run.json")
    assert story["data"]["pairs"] + story["data"]["held_out"] == 60
    assert story["settings"]["name"] == "tiny"
    assert sorted(losses(run)) == list(range(1, 11))
    assert sorted(validations(run)) == [5, 10]


def test_a_run_that_was_killed_ends_with_the_same_bits(home: Path) -> None:
    run = home / "killed"
    process = started(arguments(home, "killed"))
    checkpoint = Checkpoints(run / "checkpoints").path(4)
    begun = time.monotonic()
    while not checkpoint.exists() and time.monotonic() - begun < PATIENCE_S:
        time.sleep(0.002)
    with process:
        process.kill()
        process.communicate()
    done = Checkpoints(run / "checkpoints").steps()[-1]
    assert done < 10, "the run had ended before it was killed"

    ended(started(arguments(home, "killed")))

    assert losses(run) == losses(home / "whole")
    assert validations(run) == validations(home / "whole")
    whole = weights(home / "whole", 10)
    assert all(torch.equal(weight, whole[name]) for name, weight in weights(run, 10).items())


def test_two_processes_learn_what_one_does(home: Path) -> None:
    still = ["--set", "model.dropout=0.0"]  # whose chance is each process's own
    assert main(arguments(home, "alone", *still)) == 0
    ended(started(arguments(home, "together", *still), TWO))

    assert losses(home / "together") == pytest.approx(losses(home / "alone"), rel=1e-4)
    assert validations(home / "together")[10]["loss"] == pytest.approx(
        validations(home / "alone")[10]["loss"], rel=1e-3
    )
    for name, weight in weights(home / "together", 10).items():
        torch.testing.assert_close(weight, weights(home / "alone", 10)[name], rtol=0, atol=2e-3)


@pytest.mark.slow
def test_processes_that_share_the_weights_learn_the_same_and_go_on_with_the_same_bits(
    home: Path,
) -> None:
    options = ("model.dropout=0.0", "checkpoints.keep=9")
    still = [part for one in options for part in ("--set", one)]
    apart = [*still, "--set", "distribution=fsdp"]
    assert main(arguments(home, "one", *still)) == 0
    ended(started(arguments(home, "shared", *apart), TWO))
    before, checkpoints = losses(home / "shared"), Checkpoints(home / "shared" / "checkpoints")
    for step in (6, 8, 10):
        checkpoints.path(step).unlink()

    ended(started(arguments(home, "shared", *apart), TWO))

    assert losses(home / "shared") == before
    assert before == pytest.approx(losses(home / "one"), rel=1e-5)


def test_a_run_that_is_done_has_nothing_left_to_do(fresh: Path) -> None:
    before = losses(fresh / "whole")

    assert main(arguments(fresh, "whole")) == 0

    assert losses(fresh / "whole") == before


def test_a_checkpoint_of_another_recipe_is_refused_by_what_differs(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--set", "optimizer.learning_rate=0.5"]

    assert main(arguments(fresh, "whole", *other)) == 2

    told = capsys.readouterr().err
    assert "got one where optimizer.learning_rate was 0.01 and is 0.5; name another" in told
    assert Checkpoints(fresh / "whole" / "checkpoints").steps()[-2:] == [8, 10]


def test_what_changes_nothing_of_the_result_may_change(fresh: Path) -> None:
    settings = ("checkpoints.keep=1", "log.every_steps=3", "loader.threads=1")
    changes = [part for one in settings for part in ("--set", one)]

    assert main(arguments(fresh, "whole", *changes)) == 0


def test_a_checkpoint_of_other_data_is_refused(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fresh / "shards" / "00001.tar").unlink()

    assert main(arguments(fresh, "whole")) == 2

    assert "got one where data was '" in capsys.readouterr().err


def test_overwriting_removes_what_a_run_leaves_and_nothing_else(fresh: Path) -> None:
    note = fresh / "whole" / "note.txt"
    note.write_text("mine")

    assert main(arguments(fresh, "whole", "--overwrite", "--set", "steps=2")) == 0

    assert note.read_text() == "mine"
    assert Checkpoints(fresh / "whole" / "checkpoints").steps() == [2]
    assert sorted(losses(fresh / "whole")) == [1, 2]


def test_a_loss_that_is_no_number_stops_the_run_with_its_last_checkpoint(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("optimizer.learning_rate=1e18", "optimizer.warmup_steps=0", "clip_norm=0.0")
    settings = [part for one in (*changes, "checkpoints.every_steps=1") for part in ("--set", one)]
    out = ["--out", str(tmp_path / "run")]

    assert main([*arguments(home, "nowhere", *settings), *out]) == 2

    told = capsys.readouterr().err
    assert "must be a finite number, got" in told
    assert "the last checkpoint is good" in told
    stored = weights(tmp_path / "run", Checkpoints(tmp_path / "run" / "checkpoints").steps()[0])
    assert set(stored)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "batch=1000"], "a batch of all ranks must have from 1 sample to all"),
        (["--set", "validation.held_out_share=0.0001"], "must leave two pairs or more"),
        (["--set", "vocabulary.words=tables"], "must have filter runs to learn from"),
        (["--set", "model.image_px=24"], "images.resize_px must be at least the model's 24 px"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    options: list[str],
    sentence: str,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments(home, "nowhere"), "--out", str(tmp_path / "run"), *options]) == 2

    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
