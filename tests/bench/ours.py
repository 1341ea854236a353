"""Run our own jobs, each stage on the scales."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from filters.recipe import Recipe
from filters.text import normalise, tokenise
from pipelines import local, transforms
from pipelines.exchange import Run, Stage
from pipelines.language import Identifier
from pipelines.plan import plan_decide, plan_filter
from pipelines.run import run_decide, run_filter
from recaption.workers import start_worker
from tests.bench.usage import NOTHING, Seconds, seconds

PARTS = ("read", "count", "rank", "measure", "decide")
"""The parts of the filter job."""

_PART = {
    "Read": "read",
    "CountPairs": "count",
    "CountTexts": "count",
    "CountImages": "count",
    "Measure": "measure",
    "Decide": "decide",
    "MergeSubset": "decide",
}
"""The stages of each part; all others rank the tables, or write them for the lookup."""

Spent = dict[str, Seconds]
"""What each part of a job has cost, and what Beam, the manifest and the report have: the rest."""


def run_timed_filter(
    source: Path, output: Path, recipe: Recipe, *, workers: int = 1, language: bool = True
) -> Spent:
    """Filter into a new folder.

    Args:
        source: The input.
        output: Where results go; what is there is removed.
        recipe: The recipe.
        workers: Local processes.
        language: Identify languages; else they are all unknown.
    """
    shutil.rmtree(output, ignore_errors=True)
    plan = plan_filter(str(source), output, recipe, workers=workers)
    with _timed() as spent, ExitStack() as without:
        if not language:
            without.enter_context(patch.object(Identifier, "identify", _identify_nothing))
            without.enter_context(patch("pipelines.local.start_worker", _start_worker))
        run_filter(plan)
    return spent


def run_timed_decide(source: Path, output: Path, recipe: Recipe) -> Spent:
    """Decide again from measured columns."""
    plan = plan_decide(source, output, recipe, workers=1)
    with _timed() as spent:
        run_decide(plan)
    return spent


def warm_up() -> None:
    """Do once what a process does only once, so that no measurement pays for it."""
    tokenise(normalise(pa.array(["é"])))


@contextmanager
def _timed() -> Iterator[Spent]:
    """Time the stages of the job that is run inside."""
    spent: Spent = dict.fromkeys((*PARTS, "rest"), NOTHING)

    def perform_all(run: Run, stage: Stage, items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        before = seconds()
        found = list(local.perform_all(run, stage, items))
        used = seconds() - before
        spent[_PART.get(stage.name, "rank")] += used
        spent["rest"] -= used
        return iter(found)

    before = seconds()
    with patch.object(transforms, "perform_all", perform_all):
        yield spent
    spent["rest"] += seconds() - before


def _identify_nothing(
    _: Identifier, captions: pa.StringArray
) -> tuple[pa.StringArray, pa.FloatArray]:
    return pa.nulls(len(captions), pa.string()), pa.nulls(len(captions), pa.float32())


def _start_worker(start: Any = start_worker) -> None:
    patch.object(Identifier, "identify", _identify_nothing).start()
    start()
