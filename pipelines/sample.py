"""Write a small crawl in img2dataset's layout, with a crawl's faults planted and labelled.

About half of the rows are clean: a rendered picture and a true caption. Each other row has one
fault, named in its column `noise`, so that every rule of a recipe finds work and can be marked.
The same parameters give the same bytes.
"""

import hashlib
import io
import json
import struct
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from pipelines.classes import RECORD
from pipelines.mixture import CRAWL, Mixture
from pipelines.noise import (
    Row,
    alt_text,
    count_noise,
    plan_rows,
    rng_for,
)
from pipelines.photographs import Photograph
from pipelines.scene import render
from pipelines.shards import add_sample, write_stats
from recaption.files import put_folder
from recaption.stores import StorePath

UNSAFE_ABOVE = 0.9
EXTENSION_SHARES = {"jpg": 0.92, "webp": 0.05, "png": 0.03}
PHOTO_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2)
# Width and height; some lie exactly on ALIGN's limits, 200 pixels and a ratio of 3.
ODD_SIZES = {
    "strip": ((900, 120), (120, 900), (720, 240), (240, 960)),
    "icon": ((16, 16), (32, 32), (64, 48), (64, 64), (300, 200), (200, 260)),
}
BOMB_SIDE_PX = 60_000

VERSION = 1  # of what is written: raise it with every change that alters bytes
MAX_ROWS_PER_SHARD = 10_000  # a key has 4 digits for the row in its shard
_TYPES = {"punsafe": pa.float32()} | {
    name: pa.int32() for name in ("width", "height", "original_width", "original_height")
}


def write_sample(
    output: Path,
    *,
    rows: int = 6000,
    rows_per_shard: int = 1000,
    seed: int = 0,
    mixture: Mixture = CRAWL,
) -> dict[str, int]:
    """Write the sample into the folder `output`, unless it is there already.

    Returns:
        How many rows there are of each kind of noise, "clean" first.

    Raises:
        ValueError: A parameter is out of its range.
        FileExistsError: `output` holds something else.
    """
    _check_range("rows", rows, 1, MAX_ROWS_PER_SHARD * 100_000)
    _check_range("rows_per_shard", rows_per_shard, 1, MAX_ROWS_PER_SHARD)
    _check_range("seed", seed, 0, 2**32 - 1)
    parameters = {
        "version": VERSION,
        "rows": rows,
        "rows_per_shard": rows_per_shard,
        "seed": seed,
    } | _told(mixture)
    if _holds_sample(output, parameters):
        return count_noise(rows, mixture)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = None if isinstance(output, StorePath) else output.parent
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=beside) as temporary:
        unfinished = Path(temporary) / output.name
        unfinished.mkdir()
        plan = plan_rows(rows, seed, mixture)
        for shard, start in enumerate(range(0, rows, rows_per_shard)):
            _write_shard(unfinished, shard, plan[start : start + rows_per_shard])
        (unfinished / RECORD).write_text(json.dumps(parameters) + "\n")
        put_folder(unfinished, output, RECORD)
    return count_noise(rows, mixture)


def _told(mixture: Mixture) -> dict[str, Any]:
    """Say what is not as in the sample of old, whose record says nothing of it."""
    if mixture.shares is None:
        told: dict[str, Any] = {}
    else:
        told = {"noise": dict(mixture.shares)} if mixture.shares else {"clean": True}
    names = ("combinations", "size", "wordings", "side_px")
    changed = {name: getattr(mixture, name) for name in names}
    told |= mixture.album.about if mixture.album else {}
    return told | {name: value for name, value in changed.items() if value != getattr(CRAWL, name)}


def _check_range(name: str, value: int, minimum: int, maximum: int) -> None:
    if not minimum <= value <= maximum:
        raise ValueError(
            f"{name} must be {minimum} to {maximum}, got {value} in write_sample; change it"
        )


def _holds_sample(output: Path, parameters: Mapping[str, Any]) -> bool:
    """Tell this very sample from nothing, or an empty folder; refuse anything else."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    record = output / RECORD
    found = record.read_text().strip() if record.is_file() else "no sample.json"
    if found != json.dumps(parameters):
        raise FileExistsError(
            f"the sample's folder must be new or hold {json.dumps(parameters)}, "
            f"got {found} in {output}; remove it or name another folder"
        )
    return True


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file as it was fetched, and the size that its header claims."""

    data: bytes
    extension: str
    width: int | None = None
    height: int | None = None


def fetch_picture(row: Row) -> Picture | None:
    """Return the image file of a row; None where the download failed."""
    if row.noise == "failed_download":
        return None
    if row.noise == "hub":
        return _placeholder()
    if isinstance(row.shown, Photograph):
        assert row.mixture.album is not None
        return _found(row.mixture.album.images[row.shown.picture])
    rng = rng_for(row.seed, "pixels", row.picture)
    image = render(row.scene, *_size(row, rng), rng)
    if row.noise == "broken_image":
        return _break(image, row.turn)
    return _encode(image, str(rng.choice(list(EXTENSION_SHARES), p=[*EXTENSION_SHARES.values()])))


def _found(data: bytes) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        kind = str(image.format).lower()
        return Picture(data, "jpg" if kind == "jpeg" else kind, *image.size)


def _size(row: Row, rng: np.random.Generator) -> tuple[int, int]:
    if row.noise in ODD_SIZES:
        return ODD_SIZES[row.noise][row.turn % len(ODD_SIZES[row.noise])]
    shorter = int(rng.integers(row.mixture.side_px, row.mixture.side_px * 15 // 14 + 1))
    longer = round(shorter * rng.choice(PHOTO_RATIOS))
    return (longer, shorter) if rng.random() < 0.6 else (shorter, longer)


def _encode(image: Image.Image, extension: str) -> Picture:
    file = io.BytesIO()
    match extension:
        case "png":  # with a palette, as a PNG in full colour is ten times a JPEG
            image.quantize(64).save(file, "PNG")
        case "webp":
            image.save(file, "WEBP", quality=80, method=0)
        case _:
            image.save(file, "JPEG", quality=70)
    return Picture(file.getvalue(), extension, *image.size)


@cache
def _placeholder() -> Picture:
    """Draw what a shop shows where it has no picture."""
    image = Image.new("RGB", (320, 320), (225, 225, 225))
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 60, 260, 260), outline=(150, 150, 150), width=8)
    draw.line((60, 60, 260, 260), fill=(150, 150, 150), width=8)
    return _encode(image, "jpg")


def _break(image: Image.Image, turn: int) -> Picture:
    jpeg, png = _encode(image, "jpg"), _encode(image, "png")
    jpeg_half, png_half = len(jpeg.data) // 2, len(png.data) // 2
    ways = (
        replace(jpeg, data=jpeg.data[:jpeg_half]),
        replace(png, data=png.data[:png_half].ljust(len(png.data), b"\0")),
        Picture(b"<!DOCTYPE html><title>404 Not Found</title>\n", "jpg"),
        Picture(b"", "jpg"),
        Picture(_bomb(), "png", BOMB_SIDE_PX, BOMB_SIDE_PX),
    )
    return ways[turn % len(ways)]


def _bomb() -> bytes:
    """Return a PNG of less than 100 bytes that claims 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE_PX, BOMB_SIDE_PX, 1, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(bytes(1000)), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def _write_shard(folder: Path, shard: int, rows: list[Row]) -> None:
    """Write a shard's tar, parquet and statistics as img2dataset does."""
    records = []
    with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, row in enumerate(rows):
            picture = fetch_picture(row)
            record = _record(row, f"{shard:05d}{index:04d}", picture)
            records.append(record)
            if picture:
                caption, stored = record["caption"] or "", json.dumps(record, indent=4)
                members = {picture.extension: picture.data, "json": stored.encode()}
                add_sample(tar, record["key"], members | {"txt": caption.encode()})
    pq.write_table(pa.Table.from_pylist(records, _schema(records)), folder / f"{shard:05d}.parquet")
    status_dict = Counter(record["error_message"] or record["status"] for record in records)
    write_stats(folder / f"{shard:05d}_stats.json", status_dict)


def _schema(records: list[dict[str, Any]]) -> pa.Schema:
    return pa.schema({name: _TYPES.get(name, pa.string()) for name in records[0]})


def _record(row: Row, key: str, picture: Picture | None) -> dict[str, Any]:
    """Return a row's columns; a placeholder shows no scene, so nothing is true of it."""
    rng = rng_for(row.seed, "record", row.number)
    shown, unknown = row.shown, row.noise == "hub"
    host = rng.choice(["images.example.com", "cdn.example.net", "shop.example.org"])
    punsafe = rng.uniform(UNSAFE_ABOVE + 0.01, 1) if row.noise == "unsafe" else rng.beta(1, 12)
    return {
        "url": f"https://{host}/{row.number:08d}.{picture.extension if picture else 'jpg'}",
        "caption": alt_text(row),
        "truth_caption": None if unknown else shown.caption,
        **(dict.fromkeys(shown.columns) if unknown else shown.columns),
        "noise": row.noise,
        "punsafe": float(np.float32(punsafe)),
        "key": key,
        "status": "success" if picture else "failed_to_download",
        "error_message": None if picture else "HTTP Error 404: Not Found",
        "width": picture and picture.width,
        "height": picture and picture.height,
        "original_width": picture and picture.width,
        "original_height": picture and picture.height,
        "exif": picture and "{}",
        "sha256": picture and hashlib.sha256(picture.data).hexdigest(),
    }
