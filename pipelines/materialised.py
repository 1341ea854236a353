"""What is beside shards that were written: how many samples each has, a card, and a Croissant file.

All of it comes from the run; no clock is in it, and no caption.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recaption.captions import read_provenance
from recaption.choice import STATISTICS
from recaption.files import read_json
from recaption.stores import readable


@dataclass(frozen=True, slots=True)
class Materialised:
    """Shards that were written, and the run that they are of."""

    manifest: Mapping[str, Any]
    sizes: dict[str, int]
    """Samples by tar."""
    files: dict[str, str]
    """SHA-256 by file: tars, and the parquet beside each."""
    size_bytes: int
    """Of the tars."""
    images: dict[str, int]
    """Images by the extension of their members."""
    columns: pa.Schema
    """Of the parquet files: the columns that all samples have, in their json, too."""
    captioning: dict[str, Any]
    """What `recaption` says: `captioners`, `scorer`, `choice`; empty: the captions are raw."""
    chosen: dict[str, Any]
    """The statistics of the choice; empty likewise."""

    @property
    def samples(self) -> int:
        """How many samples there are in all."""
        return sum(self.sizes.values())


def facts_of(folder: Path, name: str, extensions: Iterable[str], rows: int) -> dict[str, Any]:
    """Return what is known of a shard that was written, for `gather`."""
    files = [f"{name}.tar", f"{name}.parquet"]
    return {
        "sizes": {files[0]: rows},
        "size_bytes": (folder / files[0]).stat().st_size,
        "files": {file: _sha256(folder / file) for file in files},
        "images": dict(Counter(extensions)),
    }


def gather(
    output: Path, manifest: Mapping[str, Any], found: Iterable[dict[str, Any]]
) -> Materialised:
    """Gather what is known of a run's shards, of what `facts_of` says and of other results."""
    sizes: dict[str, int] = {}
    files: dict[str, str] = {}
    images: Counter[str] = Counter()
    size_bytes = 0
    for one in found:
        sizes |= one.get("sizes", {})
        files |= one.get("files", {})
        size_bytes += one.get("size_bytes", 0)
        images.update(one.get("images", {}))
    tables = [output / "shards" / name for name in sorted(files) if name.endswith(".parquet")]
    statistics = output / "captions" / STATISTICS
    return Materialised(
        manifest,
        dict(sorted(sizes.items())),
        dict(sorted(files.items())),
        size_bytes,
        dict(sorted(images.items())),
        _columns(tables),
        read_provenance(output),
        read_json(statistics) if statistics.exists() else {},
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _columns(tables: Iterable[Path]) -> pa.Schema:
    """Return the columns of parquet files; one whose types do not go together holds text."""
    with ThreadPoolExecutor() as pool:
        schemas = dict.fromkeys(schema.remove_metadata() for schema in pool.map(_schema, tables))
    kinds: dict[str, pa.DataType] = {}
    for field in (field for schema in schemas for field in schema):
        kinds[field.name] = _unified(kinds.get(field.name, field.type), field.type)
    return pa.schema(kinds.items())


def _schema(path: Path) -> pa.Schema:
    return pq.read_schema(readable(path))


def _unified(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    fields = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()
