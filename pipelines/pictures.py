"""Small pictures for reports, inside the page."""

import base64
import io
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from PIL import Image, ImageOps

from filters.recipe import Recipe
from filters.rule import RecipeError
from pipelines.exchange import Run
from pipelines.image_reader import ImageReader
from pipelines.images import open_image
from pipelines.index import open_index
from pipelines.inputs import InputError, Shard
from pipelines.measure import columns_path
from pipelines.schema import NEAREST
from pipelines.test_sets import read_images
from recaption.stores import readable, to_path

_SIDE_PX = 160
_MOST_BYTES = 6_000
"""Of a picture: ours, so that 200 of them are less than 2 MB of a page."""
_QUALITIES = (75, 50, 25, 10)
_STAYS = ["key", "caption", "image_offset", "image_bytes"]

Row = dict[str, Any]


def add_pictures(rows: Sequence[Row], shards: Sequence[Shard], run: Run) -> None:
    """Give rows the picture `thumbnail` of their image, and what is to be seen `beside` it.

    That is the nearest test image, or the pair that stays in a copy's place.  What cannot be read
    or decoded is None: the input may have gone since.
    """
    for row in rows:
        row["thumbnail"] = row["beside"] = None
    staying = _add_staying(rows, shards, run)
    by_shard = defaultdict(list)
    for row in [*rows, *staying]:
        if row["image_bytes"]:
            by_shard[row["shard"]].append(row)
    for shard in shards:
        found = sorted(by_shard[shard.name], key=lambda row: row["row"])
        for row, image in zip(found, read_rows(shard, found), strict=False):
            row["thumbnail"] = thumbnail(image, run.recipe.images.max_pixels)
    _add_test_images(rows, run.recipe)


def _add_staying(rows: Iterable[Row], shards: Iterable[Shard], run: Run) -> list[Row]:
    """Put beside copies the pairs that stay in their place; return these."""
    names = {xxhash.xxh3_64_intdigest(shard.name.encode()): shard.name for shard in shards}
    staying = []
    for row in rows:
        shard = names.get(row["stays_shard"])
        if shard is not None:
            with suppress(OSError):  # gone since
                told = _read_row(columns_path(run.measured, shard), row["stays_row"])
                row["beside"] = told | {"shard": shard, "row": row["stays_row"]}
                row["beside"] |= {"thumbnail": None, "name": "the pair that stays"}
                staying.append(row["beside"])
    return staying


def _read_row(path: Path, row: int) -> Row:
    """Read what is needed of one row of measured columns."""
    with pq.ParquetFile(readable(path)) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                found: Row = file.read_row_group(group, _STAYS).slice(row, 1).to_pylist()[0]
                return found
            row -= rows
    raise OSError(f"{path} has no row {row}")


def read_rows(shard: Shard, rows: Sequence[Row]) -> list[bytes]:
    """Read the images of some rows, ascending, of a shard; nothing if it is not there any more."""
    places = pa.RecordBatch.from_pylist(
        [{name: row[name] for name in ("image_offset", "image_bytes")} for row in rows],
        pa.schema([("image_offset", pa.int64()), ("image_bytes", pa.int64())]),
    )
    try:
        with ImageReader(shard, few=True) as images:
            return list(images.read(np.array([row["row"] for row in rows], np.int64), places))
    except OSError:
        return []


def _add_test_images(rows: Iterable[Row], recipe: Recipe) -> None:
    wanted = defaultdict(list)
    for row in rows:
        column = (row["threshold"] or "").partition(" ")[0]
        if column in NEAREST:
            wanted[row[NEAREST[column]]].append(row)
    if not wanted:
        return
    found: dict[str, bytes] = {}
    for path in recipe.test_sets.indexes:
        with suppress(OSError, InputError, RecipeError):  # gone since
            found |= read_images(open_index(to_path(path)), wanted)
    for name, matched in wanted.items():
        picture = thumbnail(found[name], recipe.images.max_pixels) if name in found else None
        for row in matched:
            row["beside"] = {"thumbnail": picture, "name": "test image"}


def thumbnail(data: bytes, max_pixels: int) -> str | None:
    """Return a small JPEG as a data URI; None where the image cannot be decoded."""
    try:
        with warnings.catch_warnings(action="ignore"), open_image(data, max_pixels) as image:
            if image.width * image.height > max_pixels:
                return None
            small = ImageOps.exif_transpose(image)
            small.thumbnail((_SIDE_PX, _SIDE_PX))
            small = small.convert("RGBA")
            flat = Image.new("RGB", small.size, "white")
            flat.paste(small, mask=small)
    except Exception:  # Pillow raises far more than OSError on hostile files
        return None
    for quality in _QUALITIES:
        sink = io.BytesIO()
        flat.save(sink, "JPEG", quality=quality)
        if sink.tell() <= _MOST_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
