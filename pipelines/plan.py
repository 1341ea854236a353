"""Plan a run: find the shards, and check all that can be checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import tomli_w

from filters.parsing import from_dict, parse
from filters.recipe import SECTIONS, Recipe
from filters.rule import RecipeError, Rule
from pipelines.bundles import PIECE_ROWS, Bundle, bundle, bundle_rows
from pipelines.exchange import Run
from pipelines.inputs import Shard, find_shards
from pipelines.language import identifier
from pipelines.manifest import plan_digest
from pipelines.schema import NEAREST, NEEDED, RADII
from pipelines.test_sets import check_indexes
from recaption.files import read_recipe_text
from recaption.manifest import NAME, input_folder, measured_folder, read_manifest
from recaption.nsfw import scorer
from recaption.stores import scratch, to_path

_PARTITION_ROWS = 250_000
_MOST_PARTITIONS = 1024
_UNKNOWN_ROWS = 10_000  # img2dataset's default for a shard
_FROM_BYTES = ("shorter_side_px", "aspect_ratio", "width", "image_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run, checked and not yet begun."""

    run: Run
    shards: tuple[Shard, ...]
    digest: str
    piece_rows: int = PIECE_ROWS
    """See `bundles`."""

    @property
    def bundles(self) -> list[Bundle]:
        """The shards, small ones together; the same whenever the run goes on."""
        return bundle(self.shards, bundle_rows(self.run.partitions, self.piece_rows))

    @property
    def begun(self) -> dict[str, Any]:
        """What an unfinished run leaves, to be known by: with and without its files' states."""
        recipe, partitions = self.run.recipe, self.run.partitions
        unstamped = [replace(shard, stamps=()) for shard in self.shards]
        return {
            "plan": self.digest,
            "but_for_files": plan_digest(recipe, unstamped, partitions),
            "shards": {shard.name: [*shard.stamps] for shard in self.shards},
        }

    @property
    def rows(self) -> int:
        """The rows that parquet footers tell of."""
        return sum(shard.rows or 0 for shard in self.shards)

    def lacks(self, rule: Rule) -> str:
        """Say what a rule would need, or "" if it can run."""
        recipe = self.run.recipe
        if rule.column in NEAREST and not recipe.test_sets.indexes:
            return "the recipe's test_sets.indexes is empty"
        if rule.column in NEAREST and rule.column not in RADII and not recipe.embedding.model:
            return "the recipe's embedding.model is empty"
        needed = NEEDED.get(rule.column, ())
        has_bytes = any(shard.kind != "metadata" for shard in self.shards)
        scored = rule.column == "nsfw_score" and recipe.nsfw.model
        if not needed or scored or (rule.column in _FROM_BYTES and has_bytes):
            return ""
        present = {name for shard in self.shards for name in shard.columns}
        return "" if present.issuperset(needed) else f"the input has no {', '.join(needed)}"


def read_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a preset's name, a path, or the manifest of a run, whose recipe it is.

    Raises:
        RecipeError: There is no such recipe, or it is wrong.
    """
    path = to_path(name)
    if path.name == NAME:
        recipe = read_manifest(path.parent)["recipe"]
        return parse(tomli_w.dumps(recipe), name, tuple(changes))
    return parse(read_recipe_text("pipelines", name), name, tuple(changes))


def plan_filter(
    source: str, output: Path, recipe: Recipe, *, workers: int, carrier: str = "files"
) -> Plan:
    """Find the shards and check all that can be checked before any work.

    Raises:
        InputError: The input cannot be read.
        RecipeError: The recipe does not fit the input, or names a model that is not there.
    """
    identifier(recipe.language.model)
    if recipe.nsfw.model:
        scorer(recipe.nsfw)
    check_indexes(recipe)
    root, shards = find_shards(source, recipe.columns, output)
    _check(recipe, shards)
    partitions = count_partitions(_rows(shards))
    run = Run(
        source=root,
        output=output,
        home=output,
        measured=output,
        recipe=recipe,
        partitions=partitions,
        carrier=carrier,
        workers=workers,
    )
    digest = plan_digest(recipe, shards, partitions)
    return Plan(run=run, shards=tuple(shards), digest=digest)


def plan_decide(source: Path, output: Path, recipe: Recipe, *, workers: int) -> Plan:
    """Check that a recipe can be decided from the columns that another run measured.

    Raises:
        ManifestError: `source` holds no complete run.
        RecipeError: The recipe wants other measurements than the run made.
    """
    manifest = read_manifest(source)
    measured = from_dict(manifest["recipe"], str(source / NAME))
    for section in ("columns", *SECTIONS):
        before, wanted = (one.as_dict()[section] for one in (measured, recipe))
        for name in before | wanted:
            if before.get(name) != wanted.get(name):
                raise RecipeError(
                    f"{section}.{name} must be as the columns were measured with, "
                    f"{before.get(name)!r}, got {wanted.get(name)!r}; use the same value, or run "
                    "filter"
                )
    if recipe.hashing and not measured.hashing:
        raise RecipeError(
            f"rules.duplicate must have hashes for same = {recipe.duplicate.same!r}, got columns "  # type: ignore[union-attr]
            "that were measured without; use pair or image, or run filter with this recipe"
        )
    root = input_folder(manifest)
    shards = [Shard.restored(shard, root) for shard in manifest["shards"]]
    _check(recipe, shards)
    run = Run(
        source=root,
        output=scratch(output) / "decide",
        home=output,
        measured=measured_folder(source, manifest),
        recipe=recipe,
        partitions=count_partitions(_rows(shards)),
        workers=workers,
    )
    return Plan(run=run, shards=tuple(shards), digest=recipe.digest)


def plan_materialise(output: Path, *, workers: int) -> Plan:
    """Check that the pairs that a run kept, or gave captions, can be written as shards.

    Raises:
        ManifestError: `output` holds no complete run.
        RecipeError: The run had no images.
    """
    plan = restore_plan(output, workers=workers)
    _check(replace(plan.run.recipe, materialise=True), plan.shards)
    return plan


def restore_plan(output: Path, *, workers: int = 1) -> Plan:
    """Return the plan of a complete run.

    Raises:
        ManifestError: `output` holds none.
    """
    return plan_of(output, read_manifest(output), workers=workers)


def plan_of(output: Path, manifest: dict[str, Any], *, workers: int = 1) -> Plan:
    """Return the plan of a complete run, given its manifest."""
    recipe = from_dict(manifest["recipe"], str(output / NAME))
    root = input_folder(manifest)
    shards = [Shard.restored(shard, root) for shard in manifest["shards"]]
    run = Run(
        source=root,
        output=output,
        home=output,
        measured=measured_folder(output, manifest),
        recipe=recipe,
        partitions=count_partitions(_rows(shards)),
        workers=workers,
    )
    return Plan(run=run, shards=tuple(shards), digest=recipe.digest)


_ALONE = "got an input of metadata alone; leave it"


def _check(recipe: Recipe, shards: Sequence[Shard]) -> None:
    """Check a recipe against the input."""
    of_images = {
        f"nsfw.model must have image bytes to score, {_ALONE} empty": recipe.nsfw.model,
        f"test_sets.indexes must have image bytes to look for, {_ALONE} empty, download the "
        "images, and filter those": recipe.test_sets.indexes,
    }
    for sentence, wanted in of_images.items():
        if wanted and any(shard.kind == "metadata" for shard in shards):
            raise RecipeError(sentence)
    if recipe.embedding.model and not recipe.test_sets.indexes:
        raise RecipeError(
            "embedding.model must have test sets to compare with, got no test_sets.indexes; name "
            "them, or leave the model empty"
        )
    _check_duplicates(recipe, shards)
    for rule in recipe.rules:
        check_rule(rule, recipe)


def check_rule(rule: Rule, recipe: Recipe) -> None:
    """Check that a rule asks for no more than is measured.

    Raises:
        RecipeError: It does.
    """
    if rule.column in RADII:
        radius = getattr(recipe.test_sets, RADII[rule.column])
        if any(limit.broken(pa.array([radius + 1]))[0].as_py() for limit in rule.limits()):
            raise RecipeError(
                f"rules.{rule.name} must keep what is further than test_sets."
                f"{RADII[rule.column]}, {radius}, got {rule.threshold}; raise the radius"
            )
    bound = max((limit.bound or 0 for limit in rule.limits()), default=0)
    if rule.name == "ngram_rank" and bound > recipe.tables.max_ngrams:
        raise RecipeError(
            f"rules.ngram_rank must ask for ranks within tables.max_ngrams, "
            f"{recipe.tables.max_ngrams:,}, got {bound:,}; raise tables.max_ngrams"
        )


def _check_duplicates(recipe: Recipe, shards: Sequence[Shard]) -> None:
    rule = recipe.duplicate
    if rule is None:
        return
    if rule.near and any(shard.kind == "metadata" for shard in shards):
        raise RecipeError(
            f"rules.duplicate.same must be pair or image, as an input of metadata alone has no "
            f"images to hash, got {rule.same!r}; say --set rules.duplicate.same="
            + rule.same.removeprefix("near_")
        )
    scored = any("clip_score" in shard.columns for shard in shards)
    if rule.keep == "best_score" and not scored:
        raise RecipeError(
            "rules.duplicate.keep must be largest_image or first, as the input has no clip_score, "
            "got 'best_score'; choose one of them"
        )


def _rows(shards: Sequence[Shard]) -> int:
    return sum(_UNKNOWN_ROWS if shard.rows is None else shard.rows for shard in shards)


def count_partitions(rows: int) -> int:
    """Return how many partitions the exchange of so many rows has."""
    return min(_MOST_PARTITIONS, 1 << max(0, rows // _PARTITION_ROWS).bit_length())
