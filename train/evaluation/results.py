"""What an evaluation found, written as clip_benchmark writes it."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recaption.files import write_json
from train.evaluation.encoder import Encoder

PAGE = "index.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Figures of one task on one data set."""

    dataset: str
    task: str
    """`zeroshot_classification`, `zeroshot_retrieval` and `linear_probe` are clip_benchmark's."""
    metrics: dict[str, float]
    """By clip_benchmark's names where it has one; shares are of 1; NaN where undefined."""
    counts: dict[str, int] = field(default_factory=dict)
    """What took part."""
    faults: dict[str, int] = field(default_factory=dict)
    """What did not, by reason."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of metrics, where the images' bootstrap gives them; see `intervals`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the figures depend on."""
    language: str = "en"


def told(result: Result, encoder: Encoder) -> dict[str, Any]:
    """Return a result as plain values, clip_benchmark's fields first."""
    return {
        "dataset": result.dataset,
        "model": encoder.model,
        "pretrained": encoder.pretrained,
        "task": result.task,
        "metrics": {
            name: value if math.isfinite(value) else None for name, value in result.metrics.items()
        },
        "language": result.language,
        "intervals": {name: list(ends) for name, ends in result.intervals.items()},
        "counts": result.counts,
        "faults": result.faults,
        "settings": result.settings,
    }


def write_result(result: Result, encoder: Encoder, out: Path) -> Path:
    """Write one JSON file of a result, named by its data set and task, and return its path."""
    path = out / f"{_file_name(result.dataset)}_{result.task}.json"
    write_json(path, told(result, encoder))
    return path


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"
