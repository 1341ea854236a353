"""Checkpoints: written whole or not at all; the last ones stay, and the best one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from filters.rule import RecipeError
from recaption.files import read_json, write_json

FORMAT = 1
BEST = "best.json"
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a run, by the number of steps done."""

    folder: Path
    keep: int = 3
    """So many of the last ones stay."""

    def steps(self) -> list[int]:
        """Return the steps at which there is one, ascending."""
        return sorted(int(path.stem.partition("-")[2]) for path in self.folder.glob("step-*.pt"))

    def best(self) -> dict[str, Any] | None:
        """Return the `step` and the `score`, lower being better, of the best one so far."""
        path = self.folder / BEST
        stated: dict[str, Any] | None = read_json(path) if path.exists() else None
        return stated

    def path(self, step: int) -> Path:
        """Return a checkpoint's file."""
        return self.folder / f"step-{step:0{_DIGITS}d}.pt"

    def find(self, which: str) -> int:
        """Return the step that `last`, `best` or a number names.

        Raises:
            RecipeError: There is no such checkpoint.
        """
        steps, best = self.steps(), self.best()
        if which == "last" and steps:
            return steps[-1]
        if which == "best" and best:
            return int(best["step"])
        if which.isdecimal() and int(which) in steps:
            return int(which)
        have = ", ".join(map(str, steps)) or "none"
        raise RecipeError(
            f"a checkpoint must be last, best or a step that has one, got {which!r}, where "
            f"{self.folder} has {have}; name one of those, or run train run first"
        )

    def save(self, step: int, stored: Mapping[str, Any], score: float | None = None) -> None:
        """Write a checkpoint, and remove what need not stay.

        Args:
            step: Steps done.
            stored: Tensors and plain values.
            score: Of the model, lower being better, to keep the best one; None: not measured.

        Raises:
            RecipeError: It cannot be written; those before it stay as they are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(step)
        part = path.with_suffix(".part")
        try:
            _write(part, {"format": FORMAT, "step": step} | dict(stored))
            part.replace(path)
            _sync(self.folder)
            self._rank(step, score)
        except (OSError, RuntimeError) as error:  # torch turns what a file raises into the latter
            part.unlink(missing_ok=True)
            raise self._refused(step, error) from None
        self._prune()

    def _rank(self, step: int, score: float | None) -> None:
        best = self.best()
        if score is not None and (best is None or score < best["score"]):
            write_json(self.folder / BEST, {"step": step, "score": score})

    def _prune(self) -> None:
        best = self.best()
        stay = {*self.steps()[-self.keep :], *([best["step"]] if best else [])}
        for step in set(self.steps()) - stay:
            self.path(step).unlink(missing_ok=True)

    def _refused(self, step: int, error: Exception) -> RecipeError:
        steps = self.steps()
        safe = f"that of step {steps[-1]:,} is whole" if steps else "there is none yet"
        told = _reason(error)
        return RecipeError(
            f"a checkpoint must fit into {self.folder}, got at step {step:,}: {told}; {safe}; make "
            "room and give the same command again"
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, to the CPU.

    Raises:
        RecipeError: It is no checkpoint, or of another format.
    """
    here = os.fspath(path)
    try:
        stored = torch.load(here, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise all kinds
        raise RecipeError(
            f"a checkpoint must be one that training wrote, got {path}: {_reason(error)}; remove it"
        ) from None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise RecipeError(
            f"a checkpoint must have format {FORMAT}, got another in {path}; use the altmill that "
            "wrote it"
        )
    return stored


def difference(stored: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> str | None:
    """Say where two nested tables of settings first differ; None where they do not."""
    for key in sorted(stored.keys() | now.keys()):
        name, before, after = f"{path}{key}", stored.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = difference(before, after, f"{name}.")
            if inner:
                return inner
        elif before != after:
            return f"{name} was {before!r} and is {after!r}"
    return None


def _write(path: Path, stored: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        torch.save(stored, file)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Have the folder itself written, so that the new name outlives a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: BaseException) -> str:
    """Return the first line of what was raised, or of what that was raised for."""
    first = error.__context__ if isinstance(error.__context__, OSError) else error
    return (str(first).strip() or type(first).__name__).splitlines()[0]
