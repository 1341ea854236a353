"""Predict what a filter run costs, stage by stage, from what smaller runs did.

What a stage costs is taken to be a sum over volumes of the corpus and of its layout, such as rows
or distinct n-grams, each with a constant.  `python -m tests.bench cost` fits the constants to runs
(non-negative least squares); `cost.toml` has those of one machine.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from filters.recipe import Recipe
from filters.rule import RecipeError
from pipelines.volumes import Heaps, Volumes

Coefficients = dict[str, float]


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage's cost depends on."""

    volumes: tuple[str, ...]
    """As `measure_volumes` names them."""
    per: str = "partitions"
    """What there is a task of, or, in a bundle, a batch."""
    frees: str = ""
    """The stage whose rows are removed after this one, the last that reads them."""
    leaves: bool = False
    """What it writes and does not send is there when the run has ended."""
    maps: bool = False
    """It maps the table of n-grams into memory, whose pages count as a process's own."""
    alone: bool = False
    """There is one task, whatever it looks at in turn."""

    def names(self, quantity: str) -> tuple[str, ...]:
        """Return the volumes that a quantity depends on.

        What is written depends on all but those of reading, and memory on what lies in it.
        """
        without: dict[str, tuple[str, ...]] = {"cpu_s": (), "peak_bytes": _OF_LAYOUT}
        left = without.get(quantity, ("reads",))
        return ("one",) * (quantity == "peak_bytes") + tuple(
            name for name in self.volumes if name not in left
        )


_OF_LAYOUT = (
    *("reads", "slices", "squares", "partitions", "shards"),
    *("images", "image_mb", "cells", "table_mb"),
)
"""What takes no memory to speak of, or is added apart."""

STAGES = {
    "Read": Work(
        ("rows", "tokens", "sent_ngrams", "slices", "shards", "images", "image_mb"), "batches"
    ),
    "CountPairs": Work(("rows", "reads", "squares", "partitions")),
    "CountTexts": Work(("rows", "squares", "partitions")),
    "CountImages": Work(("rows", "squares", "partitions"), frees="CountPairs"),
    "MergeNgrams": Work(("sent_ngrams", "distinct", "reads", "partitions"), frees="Read"),
    "PlanNgrams": Work(("cells", "partitions"), "one"),
    "SplitNgrams": Work(("distinct", "squares", "partitions")),
    "SortNgrams": Work(("listed", "squares", "partitions"), frees="SplitNgrams", leaves=True),
    "MergeRanks": Work(("listed", "squares", "partitions"), frees="SortNgrams"),
    "WriteLookups": Work(("listed", "rows", "partitions"), leaves=True, alone=True),
    "Measure": Work(
        ("rows", "tokens", "table_mb", "slices", "shards", "decoded", "decoded_mpx", "hashed"),
        "batches",
        leaves=True,
        maps=True,
    ),
    "MergeTexts": Work(("rows", "reads", "partitions")),
    "PlanTexts": Work(("partitions",), "one"),
    "SplitTexts": Work(("rows", "squares", "partitions")),
    "SortTexts": Work(("rows", "squares", "partitions"), frees="SplitTexts", leaves=True),
    "MergeImages": Work(("rows", "reads", "partitions"), frees="Measure"),
    "PlanImages": Work(("partitions",), "one"),
    "SplitImages": Work(("rows", "squares", "partitions")),
    "SortImages": Work(("rows", "squares", "partitions"), frees="SplitImages", leaves=True),
    "Group": Work(("grouped", "slices", "shards"), "batches"),
    "KeepBest": Work(("grouped", "reads", "partitions"), frees="Group"),
    "JoinKept": Work(("grouped", "partitions"), alone=True),
    "Decide": Work(("rows", "kept", "slices", "shards"), "batches", leaves=True),
    "MergeHosts": Work(("kept", "reads", "partitions")),
    "MergeSubset": Work(("kept", "reads", "partitions"), frees="Decide"),
    "Materialise": Work(("written", "written_mb", "shards"), "batches", leaves=True),
    "Rest": Work(("one", "shards"), "one"),
}
"""The stages of the filter job that are predicted, in their order.

Not among them, as `left_out` tells: what finds near-duplicates by hashes, what merges the captions
of copies, and models that look at images.
"""


def left_out(recipe: Recipe) -> list[str]:
    """Name what a recipe asks for that is not predicted."""
    rule = recipe.duplicate
    asked = {
        "rules.duplicate: finding hashes that are near": rule is not None and rule.near,
        "rules.duplicate.merge_captions": rule is not None and rule.merge_captions,
        "nsfw.model": recipe.nsfw.model,
        "embedding.model": recipe.embedding.model,
        "test_sets.indexes": recipe.test_sets.indexes,
    }
    return [what for what, wanted in asked.items() if wanted]


QUANTITIES = ("cpu_s", "sent_bytes", "written_bytes", "peak_bytes")


def choose_volumes(work: Work, volumes: Volumes, quantity: str) -> Volumes:
    """Return what a quantity of a stage depends on; memory, on a task's share of the volumes."""
    whole = quantity != "peak_bytes"
    return {
        name: volumes[name] / (1.0 if whole or name == "one" else volumes[work.per])
        for name in work.names(quantity)
    }


def mapped_bytes(work: Work, volumes: Volumes) -> float:
    """Return the pages of the table of n-grams that a task may touch, which processes share."""
    return work.maps * volumes["table_mb"] * 1e6


class Cost(NamedTuple):
    """What a stage is predicted to cost."""

    cpu_s: float
    sent_bytes: float
    written_bytes: float
    peak_bytes: float
    """Of a process, at most; pages of the lookup that all processes share are among it."""
    tasks: float


@dataclass(frozen=True, slots=True)
class Constants:
    """What was measured, and where."""

    measured: dict[str, Any]
    heaps: Heaps
    stages: dict[str, dict[str, Coefficients]]

    def predict(self, volumes: Volumes) -> dict[str, Cost]:
        """Predict the cost of each stage that has something to do."""
        return {
            stage: self._predict_stage(stage, volumes)
            for stage, work in STAGES.items()
            if stage in self.stages and any(volumes[name] for name in work.volumes[:1])
        }

    def check(self) -> None:
        """Check that the constants are of volumes that there are.

        Raises:
            ValueError: They are of another version of altmill.
        """
        for stage, fitted in self.stages.items():
            for name in QUANTITIES:
                unknown = set(fitted[name]) - set(STAGES[stage].names(name))
                if unknown:
                    raise ValueError(f"{min(unknown)} in {stage}.{name}")

    def _predict_stage(self, stage: str, volumes: Volumes) -> Cost:
        fitted, work = self.stages[stage], STAGES[stage]
        costs = {
            name: _sum(fitted[name], choose_volumes(work, volumes, name)) for name in QUANTITIES
        }
        costs["peak_bytes"] += mapped_bytes(work, volumes)
        tasks = 1.0 if work.alone else volumes["bundles" if work.per == "batches" else work.per]
        return Cost(**costs, tasks=tasks)


def read_constants(path: Path | None = None) -> Constants:
    """Read constants; without a path, those that come with altmill.

    Raises:
        RecipeError: The file is none of constants.
    """
    try:
        text = (path or files("pipelines") / "cost.toml").read_text(encoding="utf-8")
        stored = tomllib.loads(text)
        constants = Constants(stored["measured"], Heaps(**stored["heaps"]), stored["stages"])
        constants.check()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"constants {path} must be a file that `python -m tests.bench cost --write FILE` "
            f"wrote, got: {error}; write it again"
        ) from None
    return constants


def peak_disk(costs: Mapping[str, Cost]) -> float:
    """Return the most bytes that lie in the output at a time, if stages run in their order."""
    now = most = 0.0
    for stage, cost in costs.items():
        now += cost.written_bytes
        most = max(most, now)
        freed = STAGES[stage].frees
        now -= costs[freed].sent_bytes if freed in costs else 0.0
    return most


def left_on_disk(costs: Mapping[str, Cost]) -> float:
    """Return the bytes that are there when the run has ended."""
    left = [cost for stage, cost in costs.items() if STAGES[stage].leaves]
    return sum(cost.written_bytes - cost.sent_bytes for cost in left)


def hours(costs: Mapping[str, Cost], workers: int) -> float:
    """Return the hours that workers take who are all busy, but where a stage has fewer tasks."""
    return sum(c.cpu_s / max(1.0, min(workers, c.tasks)) for c in costs.values()) / 3600


def largest(
    constants: Constants, volumes: Volumes, stages: Sequence[str]
) -> list[tuple[float, str, str]]:
    """Return seconds of CPU, stage and volume, the most first."""
    parts = [
        (constant * volumes[name], stage, name)
        for stage in stages
        for name, constant in constants.stages[stage]["cpu_s"].items()
    ]
    return sorted(parts, reverse=True)


def _sum(coefficients: Coefficients, volumes: Volumes) -> float:
    return sum(constant * volumes[name] for name, constant in coefficients.items())
