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
from PIL import Image, ImageOps

from filters.recipe import Recipe
from filters.rule import RecipeError
from pipelines.image_reader import ImageReader
from pipelines.images import open_image
from pipelines.index import open_index
from pipelines.inputs import InputError, Shard
from pipelines.schema import NEAREST
from pipelines.test_sets import read_images

_SIDE_PX = 160

Row = dict[str, Any]


def add_pictures(rows: Sequence[Row], shards: Iterable[Shard], recipe: Recipe) -> None:
    """Give rows the picture `thumbnail` of their image, and `beside` of the nearest test image.

    What cannot be read or decoded is None: the input may have gone since.
    """
    max_pixels = recipe.images.max_pixels
    by_shard = defaultdict(list)
    for row in rows:
        row["thumbnail"] = row["beside"] = None
        if row["image_bytes"]:
            by_shard[row["shard"]].append(row)
    for shard in shards:
        found = sorted(by_shard[shard.name], key=lambda row: row["row"])
        for row, image in zip(found, read_rows(shard, found), strict=False):
            row["thumbnail"] = thumbnail(image, max_pixels)
    _add_test_images(rows, recipe)


def read_rows(shard: Shard, rows: Sequence[Row]) -> list[bytes]:
    """Read the images of some rows, ascending, of a shard; nothing if it is not there any more."""
    places = pa.RecordBatch.from_pylist(
        [{name: row[name] for name in ("image_offset", "image_bytes")} for row in rows],
        pa.schema([("image_offset", pa.int64()), ("image_bytes", pa.int64())]),
    )
    try:
        with ImageReader(shard) as images:
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
            found |= read_images(open_index(Path(path)), wanted)
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
    sink = io.BytesIO()
    flat.save(sink, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
