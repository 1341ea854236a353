"""Find shards by what people type: folders, files, globs, and open_clip's brace patterns."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from operator import methodcaller
from pathlib import Path

from braceexpand import braceexpand

from pipelines.inputs import InputError, find_files
from recaption.manifest import NAME as MANIFEST
from recaption.stores import to_path

Found = tuple[dict[Path, list[Path]], list[Path]]
"""Files of each shard (its tar first), by their path without an extension; and what is missing."""


def find_shard_files(sources: Sequence[str]) -> Found:
    """Find the files of shards.

    Args:
        sources: Folders, files, globs, or brace patterns such as `s/{00000..00099}.tar`, several
            of them joined by `::` as open_clip has it.  Of a filter run, its materialised shards.

    Raises:
        InputError: A source is no such thing, or there is no shard.
    """
    files: dict[Path, None] = {}
    missing: list[Path] = []
    for source in (part for one in sources for part in one.split("::")):
        _check_files(source)
        found, lacking = _expand(source) if "{" in source else (find_files(_shards(source))[1], [])
        files |= dict.fromkeys(found)
        missing += lacking
    tars = [path for path in files if path.suffix == ".tar"]
    parquets = [path for path in files if path.suffix == ".parquet"]
    if not tars and not parquets:
        raise InputError(
            f"{', '.join(sources)} must hold .tar or .parquet files, got neither; check the path"
        )
    return {
        path.with_suffix(""): [path, *_beside(path)] for path in sorted(tars or parquets)
    }, missing


def _shards(source: str) -> str:
    """Return the folder of a run's shards, if that is what a source is the output of."""
    path = to_path(source)
    if (path / MANIFEST).is_file() and (path / "shards").is_dir():
        return str(path / "shards")
    return source


def _check_files(source: str) -> None:
    if source.startswith("pipe:"):
        raise InputError(
            f"{source} must be files on this machine, got a command; fetch some of the shards, and "
            "name those"
        )


def _expand(source: str) -> tuple[Iterable[Path], list[Path]]:
    """Return the files that a brace pattern names, those that are there and those that are not."""
    try:
        named = [to_path(name).absolute() for name in dict.fromkeys(braceexpand(source))]
    except ValueError:
        raise InputError(
            f"{source} must have a closing brace for each opening one, got another number; correct "
            "it, and put it in quotes"
        ) from None
    with ThreadPoolExecutor() as pool:  # it waits for storage
        found = list(pool.map(methodcaller("is_file"), named))
    there = list(compress(named, found))
    if not there:
        raise InputError(
            f"{source} must name files that are there, got none of {len(named):,}, such as "
            f"{named[0]}; check the pattern"
        )
    return there, sorted(set(named) - set(there))


def _beside(path: Path) -> list[Path]:
    beside = path.with_suffix(".parquet")
    return [beside] if path.suffix == ".tar" and beside.is_file() else []
