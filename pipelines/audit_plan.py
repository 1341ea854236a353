"""Plan an audit: open what it needs, and draw its samples, before any work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from filters.parsing import from_dict
from filters.recipe import Recipe
from filters.rule import RecipeError
from pipelines.index import TestIndex
from pipelines.planted import (
    CorpusPart,
    audited,
    detectors,
    read_test_images,
    sample_corpus,
    sample_test_images,
)
from pipelines.sources import Part, find_images
from pipelines.test_sets import check_indexes, open_indexes
from recaption.manifest import NAME, read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """What is audited, and by how much."""

    run: Path
    """The output of a filter run."""
    against: tuple[Path, ...]
    """Indexes; none: those of the run's recipe."""
    images: tuple[str, ...]
    """Where the images of each test set are; none: where the indexes found them."""
    different: str | None
    """Images that are known to be no test images."""
    sample: int
    """Test images to copy."""
    corpus_sample: int
    """Images of the corpus to plant them among."""
    seed: int
    output: Path
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """An audit, checked, its samples drawn."""

    plan: AuditPlan
    manifest: dict[str, Any]
    recipe: Recipe
    """The run's, with the indexes to audit against."""
    indexes: tuple[TestIndex, ...]
    sources: dict[str, str]
    """Where the images of each test set are."""
    entries: pa.Table
    """The test images to copy."""
    corpus: tuple[CorpusPart, ...]
    different: tuple[Part, ...]

    def read(self, entries: pa.Table) -> Iterator[tuple[str, bytes]]:
        """Yield the names and bytes of test images."""
        return read_test_images(entries, self.sources, self.plan.output)


def plan_audit(plan: AuditPlan) -> Audit:
    """Check all that can be checked before any work.

    Raises:
        ManifestError: There is no run.
        RecipeError: Its recipe looks for no test images, or an index cannot be opened.
        InputError: Images that the audit needs are not there.
    """
    manifest = read_manifest(plan.run)
    measured = from_dict(manifest["recipe"], str(plan.run / NAME))
    paths = tuple(map(str, plan.against)) or measured.test_sets.indexes
    if not detectors(measured):
        raise RecipeError(
            f"recipe {measured.name} of {plan.run} must have a rule with a limit on the distance "
            f"to test images, got {', '.join(rule.name for rule in measured.rules) or 'no rule'}; "
            "filter with rules.pdq_distance, or another such rule"
        )
    if not paths:
        raise RecipeError(
            f"audit must be told what test sets, got no index in the recipe of {plan.run}; name "
            "one with --against"
        )
    recipe = audited(measured, paths)
    check_indexes(recipe)
    indexes = tuple(open_indexes(recipe))
    return Audit(
        plan=plan,
        manifest=manifest,
        recipe=recipe,
        indexes=indexes,
        sources=_sources(indexes, plan.images),
        entries=sample_test_images(indexes, plan.sample, plan.seed),
        corpus=tuple(sample_corpus(plan.run, manifest, plan.corpus_sample, plan.seed)),
        different=tuple(find_images(plan.different, plan.output) if plan.different else ()),
    )


def _sources(indexes: Sequence[TestIndex], given: Sequence[str]) -> dict[str, str]:
    parts = [part for index in indexes for part in index.about["test_sets"]]
    names = [part["name"] for part in parts]
    if len(set(names)) < len(names):
        raise RecipeError(
            f"indexes must hold different test sets, got {', '.join(names)}; name each once"
        )
    if given and len(given) != len(names):
        raise RecipeError(
            f"--images must name a place for each test set, {', '.join(names)}, got "
            f"{', '.join(given)}; name them in that order"
        )
    return dict(zip(names, given or [part["source"] for part in parts], strict=True))
