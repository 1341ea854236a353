"""What a run tells of itself, step by step: lines of JSON, TensorBoard's event files, and W&B."""

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filters.rule import RecipeError
from recaption.files import write_text
from train.folder import EVENTS, METRICS


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics; one that was cut off by a crash is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.endswith("}")]


class Metrics:
    """Writes the metrics of a run."""

    def __init__(self, folder: Path, begun: int, settings: Mapping[str, Any], project: str) -> None:
        """Begin, or go on.

        Args:
            folder: Of the run.
            begun: Steps done; what was told of later ones, before a crash, is forgotten.
            settings: Of the run, for W&B.
            project: Of W&B; empty: nothing is sent there.

        Raises:
            RecipeError: W&B is asked for and not installed.
        """
        from torch.utils.tensorboard import SummaryWriter  # it costs a second

        self._run = _wandb(folder, settings, project) if project else None
        told = [line for line in read_metrics(folder) if line["step"] <= begun]
        write_text(folder / METRICS, "".join(f"{json.dumps(line)}\n" for line in told))
        self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder / EVENTS), purge_step=begun + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Tell values of a step: numbers, and tables of them, such as bad samples by reason."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        plain = dict(_flat(values))
        for name, value in plain.items():
            self._events.add_scalar(name, value, step)
        if self._run:
            self._run.log(plain, step=step)

    def close(self) -> None:
        """Write what is left, to the disk itself."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._events.close()
        if self._run:
            self._run.finish()


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers += _flat(value, f"{path}{name}/")
        else:
            numbers.append((f"{path}{name}", float(value)))
    return numbers


def _wandb(folder: Path, settings: Mapping[str, Any], project: str) -> Any:
    if not importlib.util.find_spec("wandb"):
        raise RecipeError(
            "log.wandb_project must be empty where wandb is not installed, got "
            f"{project!r}; pip install wandb, or leave it empty"
        )
    import wandb

    name = folder.resolve().name
    return wandb.init(
        project=project, name=name, id=name, resume="allow", dir=folder, config=dict(settings)
    )
