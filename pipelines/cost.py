"""Predict what a filter run costs, stage by stage, from what smaller runs did.

What a stage costs is taken to be a sum over volumes of the corpus and of its layout, such as rows
or distinct n-grams, each with a constant.  `python -m tests.bench cost` fits the constants to runs
(non-negative least squares); `cost.toml` has those of one machine.  How many n-grams are distinct
follows Heaps' law: of n occurrences, `factor * n ** exponent`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from filters.recipe import Recipe
from filters.rule import RecipeError
from pipelines.rows import BATCH_ROWS

Volumes = dict[str, float]
Coefficients = dict[str, float]

LOOKUP_BYTES = 12
"""Of an n-gram in the lookup: its hash and its rank."""


class Heaps(NamedTuple):
    """How many n-grams are distinct.  Source: Heaps (1978), section 7.5."""

    factor: float
    exponent: float

    def distinct(self, occurrences: float) -> float:
        """Return how many of so many are distinct."""
        return float(min(occurrences, self.factor * occurrences**self.exponent))


def fit_heaps(occurrences: NDArray[Any], distinct: NDArray[Any]) -> Heaps:
    """Fit Heaps' law to counts of a growing corpus: a straight line through their logarithms."""
    exponent, intercept = np.polyfit(np.log(occurrences), np.log(distinct), 1)
    return Heaps(float(np.exp(intercept)), float(exponent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus, as far as its cost depends on it."""

    rows: float
    tokens: float
    """Of a caption, on average."""
    heaps: Heaps
    shard_rows: float
    image_bytes: float = 0.0
    """Of an image, on average; 0: there is metadata alone."""
    megapixels: float = 0.0
    """Of an image, on average."""
    decoded: float = 1.0
    """The share of images that are decoded: those of rows that the cheap rules keep."""
    kept: float = 1.0
    """The share of rows that stay."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage's cost depends on."""

    volumes: tuple[str, ...]
    """Of CPU seconds and bytes, as `measure_volumes` names them."""
    per: str = "partitions"
    """What there is a task of, or, in a shard, a batch."""
    frees: str = ""
    """The stage whose rows are removed after this one, the last that reads them."""
    leaves: bool = False
    """What it writes and does not send is there when the run has ended."""
    alone: bool = False
    """There is one task, whatever it looks at in turn."""

    @property
    def in_memory(self) -> tuple[str, ...]:
        """The volumes that lie in memory, a task's share of them."""
        return tuple(name for name in self.volumes if name not in _OF_LAYOUT)


_OF_LAYOUT = ("slices", "reads", "footers", "squares", "shards", "images", "image_mb")
_WHOLE = ("table_mb",)
"""In memory as a whole, whatever a task's share: pages of a file, which all processes share."""

STAGES = {
    "Read": Work(
        ("rows", "tokens", "sent_ngrams", "slices", "shards", "images", "image_mb"), "batches"
    ),
    "CountPairs": Work(("rows", "reads", "footers", "squares")),
    "CountTexts": Work(("rows", "squares")),
    "CountImages": Work(("rows", "squares"), frees="CountPairs"),
    "MergeNgrams": Work(("sent_ngrams", "distinct", "reads", "footers"), frees="Read"),
    "PlanNgrams": Work(("distinct", "partitions"), "one"),
    "SplitNgrams": Work(("distinct", "squares")),
    "SortNgrams": Work(("listed", "squares"), frees="SplitNgrams", leaves=True),
    "MergeRanks": Work(("listed", "squares"), frees="SortNgrams"),
    "WriteLookups": Work(("listed", "rows", "partitions"), leaves=True, alone=True),
    "Measure": Work(
        ("rows", "tokens", "table_mb", "slices", "shards", "decoded", "decoded_mpx", "hashed_mpx"),
        "batches",
        leaves=True,
    ),
    "MergeTexts": Work(("rows", "reads", "footers")),
    "PlanTexts": Work(("partitions",), "one"),
    "SplitTexts": Work(("rows", "squares")),
    "SortTexts": Work(("rows", "squares"), frees="SplitTexts", leaves=True),
    "MergeImages": Work(("rows", "reads", "footers"), frees="Measure"),
    "PlanImages": Work(("partitions",), "one"),
    "SplitImages": Work(("rows", "squares")),
    "SortImages": Work(("rows", "squares"), frees="SplitImages", leaves=True),
    "Group": Work(("grouped", "slices", "shards"), "batches"),
    "KeepBest": Work(("grouped", "reads", "footers"), frees="Group"),
    "JoinKept": Work(("grouped", "partitions"), alone=True),
    "Decide": Work(("rows", "slices", "shards"), "batches", leaves=True),
    "MergeHosts": Work(("rows", "reads", "footers")),
    "MergeSubset": Work(("rows", "reads", "footers"), frees="Decide"),
    "Materialise": Work(("written", "written_mb", "shards"), "batches", leaves=True),
    "Rest": Work(("one", "shards", "rows"), "one"),
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


def measure_volumes(
    corpus: Corpus, recipe: Recipe, partitions: int, distinct: float | None = None
) -> Volumes:
    """Return how much of everything a run works on.

    Args:
        corpus: The corpus.
        recipe: The recipe.
        partitions: Of the exchange.
        distinct: How many n-grams are distinct, where that was counted.
    """
    rows, batch_rows = corpus.rows, min(corpus.shard_rows, BATCH_ROWS)
    shards, batches = -(-rows // corpus.shard_rows), -(-rows // batch_rows)
    occurrences = max(0.0, 2 * corpus.tokens - 1) * rows
    distinct = corpus.heaps.distinct(occurrences) if distinct is None else distinct
    images = rows if corpus.image_bytes else 0.0
    decodes = recipe.images.decode or recipe.nsfw.model or recipe.hashing
    decoded = images * corpus.decoded if decodes else 0.0
    written = rows * corpus.kept if recipe.materialise else 0.0
    listed = min(distinct, recipe.tables.max_ngrams)
    return {
        "one": 1.0,
        "rows": rows,
        "tokens": rows * corpus.tokens,
        "sent_ngrams": batches * corpus.heaps.distinct(occurrences / batches),
        "distinct": distinct,
        "listed": listed,
        "table_mb": listed * LOOKUP_BYTES / 1e6,
        "images": images,
        "image_mb": images * corpus.image_bytes / 1e6,
        "decoded": decoded,
        "decoded_mpx": decoded * corpus.megapixels,
        "hashed_mpx": decoded * corpus.megapixels if recipe.hashing else 0.0,
        "grouped": rows if recipe.duplicate else 0.0,
        "written": written,
        "written_mb": written * corpus.image_bytes / 1e6,
        "partitions": partitions,
        "shards": shards,
        "batches": batches,
        "slices": batches * partitions,
        "reads": shards * partitions,
        "footers": batches * partitions**2,
        "squares": partitions**2,
    }


def shares(work: Work, volumes: Volumes) -> Volumes:
    """Return what of a stage's volumes one task has in memory."""
    return {"one": 1.0} | {
        name: volumes[name] / (1.0 if name in _WHOLE else volumes[work.per])
        for name in work.in_memory
    }


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

    def _predict_stage(self, stage: str, volumes: Volumes) -> Cost:
        fitted, work = self.stages[stage], STAGES[stage]
        cpu_s, sent, written = (_sum(fitted[name], volumes) for name in QUANTITIES[:-1])
        tasks = 1.0 if work.alone else volumes["shards" if work.per == "batches" else work.per]
        return Cost(cpu_s, sent, written, _sum(fitted["peak_bytes"], shares(work, volumes)), tasks)


def read_constants(path: Path | None = None) -> Constants:
    """Read constants; without a path, those that come with altmill.

    Raises:
        RecipeError: The file is none of constants.
    """
    try:
        text = (path or files("pipelines") / "cost.toml").read_text(encoding="utf-8")
        stored = tomllib.loads(text)
        heaps = Heaps(**stored["heaps"])
        return Constants(stored["measured"], heaps, stored["stages"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"constants {path} must be a file that `python -m tests.bench cost --write FILE` "
            f"wrote, got: {error}; write it again"
        ) from None


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
