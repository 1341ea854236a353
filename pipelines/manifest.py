"""The manifest: what a run was told, what it read, and the account of every row."""

import hashlib
import platform
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import filters
import pipelines
import recaption
from filters.recipe import Recipe
from pipelines.exchange import Run
from pipelines.inputs import Shard
from pipelines.language import identifier
from recaption.files import read_json
from recaption.manifest import FORMAT, ManifestError

_FIRST = (
    *("distinct", "occurrences", "shared", "listed"),
    *("shard", "kind", "tar", "parquet", "columns", "rows", "files", "damage"),
)
"""The order in which a table's and a shard's facts are told, before others."""


def build_manifest(account: dict[str, Any], run: Run) -> dict[str, Any]:
    """Build a run's manifest from its stages' results, added up; it has no clock in it."""
    reasons = dict(account.get("reasons", {}))
    kept = reasons.pop("kept", 0)
    order = [limit.reason for rule in run.recipe.rules for limit in rule.limits()]
    dropped = sorted(reasons, key=lambda r: (order.index(r) if r in order else -1, r))
    shards = account.get("shards", {})
    return {
        "format": FORMAT,
        "altmill": code_version(),
        "environment": environment(),
        "recipe": run.recipe.as_dict(),
        "recipe_digest": run.recipe.digest,
        "language_model": identifier(run.recipe.language.model).model_digest,
        "test_sets": test_set_digests(run.recipe),
        "input": str(run.source),
        "measured": "." if run.measured == run.home else str(run.measured.absolute()),
        "rows_in": account.get("rows", 0),
        "kept": kept,
        "dropped": {reason: reasons[reason] for reason in dropped},
        "kept_unchecked": account.get("unchecked", 0),
        "duplicates": dict(sorted(account.get("duplicates", {}).items())),
        "tables": {
            name: _ordered(told) for name, told in sorted(account.get("tables", {}).items())
        },
        "shards": [_ordered(shards[name]) for name in sorted(shards, key=str.encode)],
    }


def _ordered(facts: dict[str, Any]) -> dict[str, Any]:
    """Say facts in one order, in whichever stages told them."""
    first = [name for name in _FIRST if name in facts]
    return {name: facts[name] for name in (*first, *sorted(facts.keys() - set(first)))}


def close_account(manifest: dict[str, Any]) -> None:
    """Check that every row was kept or dropped with a reason.

    Raises:
        ManifestError: The account does not close.
    """
    rows, kept, dropped = manifest["rows_in"], manifest["kept"], manifest["dropped"]
    shards = sum(shard["rows"] for shard in manifest["shards"])
    if not rows == shards == kept + sum(dropped.values()):
        raise ManifestError(
            f"the account must close, got {rows} rows in, {shards} in the shards, {kept} kept and "
            f"{sum(dropped.values())} dropped; this is a defect of altmill: please report it"
        )


def plan_digest(recipe: Recipe, shards: Sequence[Shard], partitions: int) -> str:
    """Return what tells whether a run is the same: recipe, code, and the input files."""
    model = identifier(recipe.language.model).model_digest
    told = f"{recipe.digest} {model} {test_set_digests(recipe)} {code_version()} {partitions}"
    digest = hashlib.sha256(told.encode())
    for shard in shards:
        names = " ".join(path.name for path in shard.files)
        digest.update(f"{shard.name} {shard.kind} {names} {' '.join(shard.stamps)}\n".encode())
    return digest.hexdigest()


def test_set_digests(recipe: Recipe) -> dict[str, str | None]:
    """Return the digest of each index of a recipe; null for those that are not there any more."""
    files = {path: Path(path) / "index.json" for path in recipe.test_sets.indexes}
    return {path: read_json(f)["digest"] if f.exists() else None for path, f in files.items()}


@cache
def code_version(*others: ModuleType) -> str:
    """Return the version, and a digest of the code itself, and that of other packages."""
    digest = hashlib.sha256()
    for package in (filters, recaption, pipelines, *others):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(path.read_bytes())
    return f"{version_of('altmill')}+{digest.hexdigest()[:8]}"


def environment() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = (
        "apache-beam",
        "fasttext-predict",
        "numpy",
        "pillow",
        "pyarrow",
        "scipy",
        "simplejpeg",
        "xxhash",
    )
    return {
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
    } | {name: version_of(name) for name in packages}


def version_of(package: str) -> str:
    """Return a package's version; 0 where it is not installed."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return "0"
