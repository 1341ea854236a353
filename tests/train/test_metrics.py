"""What a run tells of itself: JSON and event files that agree, and tell no step twice."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from filters.rule import RecipeError
from train.folder import METRICS
from train.metrics import Metrics, read_metrics


def write(folder: Path, begun: int, steps: dict[int, float]) -> None:
    metrics = Metrics(folder, begun, {}, "")
    for step, loss in steps.items():
        metrics.write(step, {"loss": loss, "bad": {"undecodable": step}})
    metrics.close()


def test_lines_hold_what_was_told_to_the_last_bit(tmp_path: Path) -> None:
    write(tmp_path, 0, {1: 8.317766189575195, 2: 1 / 3})

    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 8.317766189575195, "bad": {"undecodable": 1}},
        {"step": 2, "loss": 1 / 3, "bad": {"undecodable": 2}},
    ]


def test_steps_that_are_done_again_are_told_once(tmp_path: Path) -> None:
    write(tmp_path, 0, {1: 0.5, 2: 0.25, 3: 0.125})

    write(tmp_path, 1, {2: 2.0, 3: 3.0})

    assert [line["loss"] for line in read_metrics(tmp_path)] == [0.5, 2.0, 3.0]
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0})
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 0.5),
        (2, 2.0),
        (3, 3.0),
    ]
    assert [event.value for event in events.Scalars("bad/undecodable")] == [1, 2, 3]


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 0, {1: 0.5})
    with (tmp_path / METRICS).open("a") as file:
        file.write(json.dumps({"step": 2, "loss": 0.25})[:-3])

    assert [line["step"] for line in read_metrics(tmp_path)] == [1]


def test_wandb_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(RecipeError, match=r"log.wandb_project must be empty where wandb is not"):
        Metrics(tmp_path, 0, {}, "project")
