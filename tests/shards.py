"""Tiny shards for tests: pictures, tars and parquet files as crawlers leave them."""

import io
import random
import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
"""Real data beside the project; tests of it skip where it is absent."""

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


@cache
def picture(width: int, height: int, kind: str = "PNG", colour: str = "red") -> bytes:
    """Return an image file of one colour, with a square on it; equal arguments, equal bytes."""
    image = Image.new("RGB", (width, height), colour)
    image.paste("white", (0, 0, (width + 1) // 2, (height + 1) // 2))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar of files, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_parquet(path: Path, columns: dict[str, Any], row_group_size: int | None = None) -> None:
    """Write a parquet file of columns, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def write_shard(
    path: Path, pairs: Iterable[tuple[str, bytes | None, str | None]], host: str = "e.example"
) -> None:
    """Write a shard in img2dataset's layout, a tar and a parquet, from keys, images and captions.

    Args:
        path: Without an extension.
        pairs: A pair without an image is one whose download failed: it is not in the tar.
        host: Of the URLs, which end in the keys.
    """
    rows = list(pairs)
    write_tar(
        path.with_suffix(".tar"),
        [
            (f"{key}.{extension}", data)
            for key, image, caption in rows
            if image is not None
            for extension, data in (("png", image), ("txt", (caption or "").encode()))
        ],
    )
    write_parquet(
        path.with_suffix(".parquet"),
        {
            "key": [key for key, _, _ in rows],
            "url": [f"https://{host}/{key}" for key, _, _ in rows],
            "caption": pa.array([caption for _, _, caption in rows], pa.string()),
            "status": ["failed_to_download" if i is None else "success" for _, i, _ in rows],
        },
    )


@cache
def photo(seed: int, width: int = 320, height: int = 240, kind: str = "JPEG") -> bytes:
    """Return an image file with a photograph's gradients; equal arguments, equal bytes."""
    generator = np.random.default_rng(seed)
    scene = np.zeros((height, width, 3))
    for cells in (4, 9, 20, 45):  # amplitudes fall with frequency, as in photographs
        noise = generator.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        scene += np.asarray(layer) / cells
    scene = (scene - scene.min()) / max(1e-9, np.ptp(scene)) * 255
    file = io.BytesIO()
    Image.fromarray(scene.astype(np.uint8)).save(file, kind)
    return file.getvalue()


def write_crawl(folder: Path, *, shards: int, rows: int, images: int, seed: int) -> None:
    """Write shards of pairs by chance, of few images and few words, so that many are copies."""
    words = ("red", "blue", "shoe", "dog", "cat", "photo", "of", "grass", "a", "the")
    chance = random.Random(seed)
    pictures = [picture(201 + n, 300) for n in range(images)]
    for shard in range(shards):
        pairs = [
            (f"{shard:05d}{row:04d}", chance.choice(pictures), " ".join(chance.choices(words, k=5)))
            for row in range(rows)
        ]
        write_shard(folder / f"{shard:05d}", pairs)
