"""Read the manifest of a filter run."""

from pathlib import Path
from typing import Any

from filters.rule import RecipeError
from recaption.files import read_json
from recaption.stores import to_path

FORMAT = 1
NAME = "manifest.json"
UNFINISHED = "takedown/unfinished.parquet"
"""Of a takedown that is under way, or was stopped."""


class ManifestError(RecipeError):
    """An output folder does not hold what it must."""


def measured_folder(output: Path, manifest: dict[str, Any]) -> Path:
    """Return the folder with the columns and tables that a run was decided from."""
    told = manifest["measured"]
    return output if told == "." else to_path(told)


def input_folder(manifest: dict[str, Any]) -> Path:
    """Return the folder that the paths of a run's shards are relative to."""
    return to_path(manifest["input"])


def read_manifest(output: Path) -> dict[str, Any]:
    """Read a complete run's manifest.

    Raises:
        ManifestError: There is none, or it is of another format, or pairs are being taken down.
    """
    if (output / UNFINISHED).exists():
        raise ManifestError(
            f"{output} must have no takedown under way, got one; wait for it, or finish it by "
            f"python -m pipelines takedown --from {output}"
        )
    return stored_manifest(output)


def stored_manifest(output: Path) -> dict[str, Any]:
    """Read a complete run's manifest, even while pairs are being taken down.

    Raises:
        ManifestError: There is none, or it is of another format.
    """
    path = output / NAME
    if not path.is_file():
        raise ManifestError(
            f"{output} must hold a complete run, got no {NAME} there; run filter to its end, or "
            "check the path"
        )
    try:
        manifest = read_json(path)
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path} must be a manifest, got: {error}; run filter again") from None
    if found != FORMAT:
        raise ManifestError(
            f"{path} must have format {FORMAT}, got {found}; use the altmill that wrote it"
        )
    return manifest
