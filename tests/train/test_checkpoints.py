"""Checkpoints: whole or not there, the last ones and the best one, and only of the same recipe."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError  # noqa: E402
from train.checkpoints import Checkpoints, difference, read_checkpoint  # noqa: E402


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Have the system refuse larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    weights = torch.randn(3, 4)

    Checkpoints(tmp_path).save(12, {"model": {"w": weights}, "position": {"epoch": 1}})

    stored = read_checkpoint(Checkpoints(tmp_path).path(12))
    assert stored["step"] == 12
    assert stored["position"] == {"epoch": 1}
    assert torch.equal(stored["model"]["w"], weights)


def test_the_last_ones_and_the_best_one_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)

    for step, score in {10: 3.0, 20: 1.0, 30: 2.0, 40: None, 50: 1.5}.items():
        checkpoints.save(step, {}, score)

    assert checkpoints.steps() == [20, 40, 50]
    assert checkpoints.best() == {"step": 20, "score": 1.0}
    assert [checkpoints.find(which) for which in ("last", "best", "40")] == [50, 20, 40]


@pytest.mark.parametrize("which", ["best", "30", "first", "-1"])
def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(
    which: str, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, {})

    with pytest.raises(RecipeError, match=rf"must be last, best or .*, got '{which}', .* has 10;"):
        checkpoints.find(which)


def test_on_a_full_disk_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(10, {"w": torch.ones(10)})

    with (
        largest_file(100_000),
        pytest.raises(RecipeError, match=r"got at step 20: .*File too large; that of step 10 is"),
    ):
        checkpoints.save(20, {"w": torch.ones(100_000)})

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000010.pt"]
    assert read_checkpoint(checkpoints.path(10))["w"].tolist() == [1.0] * 10


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_checkpoint_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    path.write_bytes(content)

    with pytest.raises(RecipeError, match=re.escape(f"one that training wrote, got {path}")):
        read_checkpoint(path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 0}, tmp_path / "step-000000001.pt")

    with pytest.raises(RecipeError, match="must have format 1"):
        read_checkpoint(tmp_path / "step-000000001.pt")


def test_settings_differ_by_the_first_value_that_does() -> None:
    before = {"batch": 64, "optimizer": {"name": "lamb", "beta": 0.9}}

    assert difference(before, before) is None
    assert difference(before, before | {"batch": 32}) == "batch was 64 and is 32"
    assert (
        difference(before, {"batch": 64, "optimizer": {"name": "adamw", "beta": 0.9}})
        == "optimizer.name was 'lamb' and is 'adamw'"
    )
    assert difference(before, {"batch": 64}) is not None
