"""Small data to load, for tests."""

from collections.abc import Sequence
from pathlib import Path

from recaption.wordpiece import SPECIALS, Tokenizer
from tests.shards import picture, write_parquet, write_tar
from train.augment import Images
from train.index import Data, open_data
from train.loader import LoaderSettings
from train.mixing import Captions

PX = 16
UNEVEN = (7, 1, 12, 5)
"""Samples of each shard."""
COLOURS = ("red", "green", "blue", "white", "black")

Pairs = list[tuple[str, bytes, str]]


def pairs(sizes: Sequence[int] = UNEVEN) -> list[Pairs]:
    """Return keys, images and captions of shards; every caption is another."""
    return [
        [
            (f"{shard:03d}{row:04d}", _image(shard, row), f"picture {row} of shard {shard}")
            for row in range(size)
        ]
        for shard, size in enumerate(sizes)
    ]


def _image(shard: int, row: int) -> bytes:
    return picture(20 + row, 24 + shard, "JPEG" if row % 3 else "PNG", COLOURS[row % 5])


def write_tars(folder: Path, sizes: Sequence[int] = UNEVEN) -> Path:
    """Write a tar per size, as webdataset does."""
    for shard, some in enumerate(pairs(sizes)):
        members = [
            (f"{key}.{extension}", data)
            for key, image, caption in some
            for extension, data in (("jpg", image), ("txt", caption.encode()))
        ]
        write_tar(folder / f"{shard:05d}.tar", members)
    return folder


def write_parquets(folder: Path, sizes: Sequence[int] = UNEVEN, row_group_size: int = 5) -> Path:
    """Write a parquet per size, with the bytes of images."""
    for shard, some in enumerate(pairs(sizes)):
        keys, images, captions = zip(*some, strict=True)
        columns = {"key": keys, "jpg": images, "caption": captions}
        write_parquet(folder / f"{shard:05d}.parquet", columns, row_group_size)
    return folder


WRITERS = {"tar": write_tars, "parquet": write_parquets}


def opened(source: Path, captions: Captions | None = None) -> Data:
    """Index a source."""
    return open_data([source], captions or Captions(), source.parent / "index", workers=1)


def settings(**changes: object) -> LoaderSettings:
    values = {"images": Images(resize_px=20), "threads": 2, "shuffle_shards": 2} | changes
    return LoaderSettings(**values)  # type: ignore[arg-type]


def tokenizer(max_tokens: int = 10) -> Tokenizer:
    digits = [mark + digit for digit in "0123456789" for mark in ("", "##")]
    return Tokenizer([*SPECIALS, "picture", "of", "shard", *digits], max_tokens)
