"""Shards read row by row, for tests."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.hashes import hashes, shrink
from pipelines.inputs import find_shards
from pipelines.rows import read_rows
from pipelines.schema import NUMERIC, TEXTUAL


def read(path: Path, **columns: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return all rows of an input, each with its image, and the damage.

    Args:
        path: A shard, or a folder of them.
        **columns: A recipe's `[columns]`.
    """
    damage: list[str] = []
    found: list[dict[str, Any]] = []
    for shard in find_shards(str(path), columns, path / "out")[1]:
        for part in read_rows(shard, damage):
            assert part.batch.schema.names == [*TEXTUAL, *NUMERIC, "image_offset", "error"]
            rows = zip(part.batch.to_pylist(), part.images, strict=True)
            found += [row | {"image": image} for row, image in rows]
    return found, damage


def told(path: Path, *names: str, **columns: str) -> list[tuple[Any, ...]]:
    """Return some columns of all rows of an input without damage."""
    found, damage = read(path, **columns)
    assert damage == []
    return [tuple(row[name] for name in names) for row in found]


def hashed(images: list[bytes]) -> pa.RecordBatch:
    """Return what is measured of images before they are looked for among test images."""
    rows = []
    for image in images:
        grids = shrink(image, 10**8, exact=True)
        assert grids is not None
        digest = hashlib.sha256(image).hexdigest()
        rows.append({"sha256": digest} | hashes(grids)._asdict())
    return pa.RecordBatch.from_pylist(rows)
