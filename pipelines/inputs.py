"""Find an input's shards and what they hold, before anything is spent."""

import glob
import itertools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.listing import hidden, list_store
from pipelines.schema import ALIASES, resolve
from recaption.stores import StorePath, readable, stat_all, to_path


class InputError(ValueError):
    """The input cannot be read; raised before any work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One input file, or a tar with its parquet beside it."""

    name: str
    """The path below the input, without its extension; it names the outputs too."""
    kind: str
    """`webdataset`, `metadata` (parquet without images) or `images` (parquet with their bytes)."""
    tar: Path | None = None
    parquet: Path | None = None
    rows: int | None = None
    """The parquet's rows; None where only reading the tar would tell."""
    columns: Mapping[str, str]
    """The parquet's columns by our name."""
    size_bytes: int = 0
    """Of its files together."""
    stamps: tuple[str, ...] = ()
    """What tells whether each file is the same, of a run that is not over; see `stamp`."""
    digests: tuple[str, ...] = ()
    """XXH3 of each file, of a run that is over."""

    @property
    def files(self) -> list[Path]:
        """The shard's files."""
        return [path for path in (self.tar, self.parquet) if path]

    def stored(self, root: Path) -> dict[str, Any]:
        """Return what `restored` reads, with paths relative to the input's root."""
        return {
            "shard": self.name,
            "kind": self.kind,
            "tar": self.tar and self.tar.relative_to(root).as_posix(),
            "parquet": self.parquet and self.parquet.relative_to(root).as_posix(),
            "columns": dict(self.columns),
        }

    @classmethod
    def restored(cls, stored: Mapping[str, Any], root: Path) -> "Shard":
        """Return the shard of which `stored` told, with its number of rows."""
        return cls(
            name=stored["shard"],
            kind=stored["kind"],
            tar=root / stored["tar"] if stored["tar"] else None,
            parquet=root / stored["parquet"] if stored["parquet"] else None,
            rows=stored["rows"],
            columns=stored["columns"],
            size_bytes=sum(file["bytes"] for file in stored["files"]),
            digests=tuple(file["xxh3_128"] for file in stored["files"]),
        )


def stamp(state: os.stat_result) -> str:
    """Tell whether a file is the same without reading it."""
    return f"{state.st_size} bytes of {state.st_mtime_ns} ns"


def find_shards(
    source: str, columns: Mapping[str, str], exclude: Path, *, captions: bool = True
) -> tuple[Path, list[Shard]]:
    """Find the shards of an input.

    Args:
        source: A folder (searched to the bottom), a file, or a glob pattern, of this machine or
            of an object store.
        columns: The recipe's `[columns]`.
        exclude: A folder to leave out, the output's.
        captions: Refuse parquet without a column of captions.

    Returns:
        The folder that names are relative to, and the shards in the order of their names.

    Raises:
        InputError: There is nothing to read, or a file is not what its name says.
        RecipeError: A column of the recipe is missing.
    """
    root, found = find_files(source)
    paths = [path for path in found if not path.resolve().is_relative_to(exclude.resolve())]
    if found and not paths:
        raise InputError(
            f"input {source} must lie outside the output {exclude}, got it inside; choose another "
            "output"
        )
    tars = {path.with_suffix(""): path for path in paths if path.suffix == ".tar"}
    parquets = {path.with_suffix(""): path for path in paths if path.suffix == ".parquet"}
    if not tars and not parquets:
        raise InputError(
            f"input {source} must hold .tar or .parquet files, got neither; check the path"
        )
    try:
        stems = sorted(tars.keys() | parquets.keys(), key=lambda stem: stem.as_posix().encode())
    except UnicodeEncodeError as error:
        raise InputError(
            f"input {source} must have file names in UTF-8, got {error.object!r}; rename that file"
        ) from None

    def build(stem: Path) -> Shard:
        name = stem.relative_to(root).as_posix()
        if tars:
            return _shard(name, tars.get(stem), parquets.get(stem), columns)
        return _parquet_shard(name, parquets[stem], columns, captions=captions)

    with ThreadPoolExecutor() as pool:  # it waits for storage, at 100,000 footers for long
        shards = list(pool.map(build, stems))
    if any(shard.kind == "images" for shard in shards):  # then images are missing from the others
        shards = [replace(shard, kind="images") for shard in shards]
    states = iter(stat_all([path for shard in shards for path in shard.files]))
    return root, [_with_states(shard, [next(states) for _ in shard.files]) for shard in shards]


def _with_states(shard: Shard, states: list[os.stat_result]) -> Shard:
    size_bytes = sum(state.st_size for state in states)
    return replace(shard, size_bytes=size_bytes, stamps=tuple(map(stamp, states)))


def find_files(source: str) -> tuple[Path, list[Path]]:
    """Return the folder that an input's names are relative to, and its files.

    Raises:
        InputError: There is nothing, or it cannot be read.
    """
    path = to_path(source).absolute()
    if isinstance(path, StorePath):
        root, found = list_store(path)
        return root, _some(source, found)
    try:
        if path.is_dir():
            return path, [p for p in _below(path) if p.is_file() and not hidden(p, path)]
        if path.is_file():
            return path.parent, [path, *_beside(path)]
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    except OSError as error:
        raise InputError(f"input {source} must be readable, got: {error}; check it") from error
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
    some = _some(source, found)
    return Path(*fixed), [p for one in some if one.is_file() for p in {one, *_beside(one)}]


def _some(source: str, found: list[Path]) -> list[Path]:
    if not found:
        raise InputError(f"input {source} must exist, got nothing there; check the path")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Yield all files of a folder but those of other runs' outputs in it.

    Unlike `rglob`, it follows links, and passes over no folder that it may not read.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen = {folder.resolve()}
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        below = {name: Path(parent, name) for name in folders}
        folders[:] = [
            name
            for name, path in sorted(below.items())
            if path.resolve() not in seen and not _is_output(path)
        ]
        seen |= {below[name].resolve() for name in folders}
        yield from (Path(parent, name) for name in names)


def _is_output(folder: Path) -> bool:
    complete = (folder / "manifest.json").is_file() and (folder / "decisions").is_dir()
    return complete or (folder / "_work" / "plan.json").is_file()


def _beside(path: Path) -> Iterator[Path]:
    """Yield the parquet that belongs to a tar."""
    sidecar = path.with_suffix(".parquet")
    if path.suffix == ".tar" and sidecar.is_file():
        yield sidecar


def _shard(name: str, tar: Path | None, parquet: Path | None, chosen: Mapping[str, str]) -> Shard:
    if tar and not isinstance(tar, StorePath) and not os.access(tar, os.R_OK):
        raise InputError(
            f"{tar} must be readable, got permission denied; change it or move it away"
        )
    rows, columns = (None, dict(chosen))
    resolve(list(chosen.values()), chosen, name)  # are the names ours?
    if parquet:
        file = _open(parquet)
        rows, columns = (
            file.metadata.num_rows,
            resolve(file.schema_arrow.names, chosen, str(parquet)),
        )
        _check(file.schema_arrow, columns, parquet)
        if "key" not in columns:
            raise InputError(
                f"{parquet} must have a column key, as the parquet of a tar shard, got "
                f"{', '.join(file.schema_arrow.names)}; name it in the recipe's [columns] or move "
                "the tar away"
            )
    return Shard(name=name, kind="webdataset", tar=tar, parquet=parquet, rows=rows, columns=columns)


def _parquet_shard(name: str, parquet: Path, chosen: Mapping[str, str], *, captions: bool) -> Shard:
    file = _open(parquet)
    schema = file.schema_arrow
    columns = resolve(schema.names, chosen, str(parquet))
    _check(schema, columns, parquet)
    if captions and "caption" not in columns:
        raise InputError(
            f"{parquet} must have a column of captions, got {', '.join(schema.names)}; name it: "
            "--set columns.caption=NAME"
        )
    images = (chosen["image"],) if "image" in chosen else ALIASES["image"]
    there = [name for name in images if schema.get_field_index(name) >= 0]
    image = next((name for name in there if _holds_bytes(schema.field(name).type)), None)
    columns = {k: v for k, v in columns.items() if k != "image"} | (
        {"image": image} if image else {}
    )
    return Shard(
        name=name,
        kind="images" if "image" in columns else "metadata",
        parquet=parquet,
        rows=file.metadata.num_rows,
        columns=columns,
    )


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(readable(path))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} must be a parquet file, got: {str(error).splitlines()[0]}; repair it or move "
            "it away"
        ) from None


def _check(schema: pa.Schema, columns: Mapping[str, str], path: Path) -> None:
    for column in columns.values():
        if schema.names.count(column) > 1:
            raise InputError(
                f"{path} must have one column {column}, got {schema.names.count(column)}; rename "
                "the others"
            )
    kind = schema.field(columns["caption"]).type if "caption" in columns else pa.string()
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.null()):
        raise InputError(
            f"column {columns['caption']} of {path} must hold text, got {kind}; name another: "
            "--set columns.caption=NAME"
        )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
