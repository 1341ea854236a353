"""List the files of an input in an object store, as `find_files` lists those of a folder."""

import fnmatch
import glob
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePath

from recaption.stores import StorePath


def list_store(source: StorePath) -> tuple[Path, list[Path]]:
    """Return the folder that names are relative to, and the files; none, if nothing is there.

    Args:
        source: A folder (searched to the bottom, but for outputs of other runs in it), a file, or
            a glob pattern, in which `**` stands for any folders.
    """
    if glob.has_magic(str(source)):
        root = StorePath(*takewhile(lambda part: not glob.has_magic(part), source.parts))
        files, pattern = list(root.below()), source.relative_to(root).parts
        chosen = {path for path in files if _is_like(path.relative_to(root).parts, pattern)}
        found = [path for path in files if path in chosen or _belongs(path, chosen)]
        return root, list[Path](found)
    if source.is_file():
        beside = source.with_suffix(".parquet")
        more = [beside] if source.suffix == ".tar" and beside.is_file() else []
        return source.parent, [source, *more]
    files = list(source.below())
    outputs = set(_outputs(source, files))
    return source, [
        path for path in files if not hidden(path, source) and outputs.isdisjoint(path.parents)
    ]


def hidden(path: Path, root: Path) -> bool:
    """Say whether a path, or a folder that it is in, has a name that is not for others."""
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _belongs(path: Path, chosen: set[StorePath]) -> bool:
    """Say whether a file is the parquet of a tar that was chosen."""
    return path.suffix == ".parquet" and path.with_suffix(".tar") in chosen


def _outputs(root: Path, files: Sequence[Path]) -> Iterator[PurePath]:
    """Yield the folders that hold another run, complete or not."""
    decided = {folder for path in files for folder in path.parents if folder.name == "decisions"}
    for path in files:
        complete = path.name == "manifest.json" and path.parent / "decisions" in decided
        if complete and path.parent != root:
            yield path.parent
        if path.name == "plan.json" and path.parent.name == "_work" and path.parents[1] != root:
            yield path.parents[1]


def _is_like(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Say whether a path is like a pattern: `*` stops at a slash, and no dot is found unasked."""
    if not pattern:
        return not parts
    first, *rest = pattern
    if first == "**" and _is_like(parts, rest):
        return True
    if not parts or (parts[0].startswith(".") and not first.startswith(".")):
        return False
    if first == "**":
        return _is_like(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], first) and _is_like(parts[1:], rest)
