"""Check one shard: what webdataset's readers would make of it, and what else speaks of it."""

import itertools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from filters.recipe import Images
from pipelines.companions import compare
from pipelines.findings import Checkup
from pipelines.images import decodes, read_header
from pipelines.inputs import find_shards
from pipelines.rows import mapped, read_rows
from pipelines.schema import IMAGE_EXTENSIONS
from pipelines.tars import Sample, read_members, samples
from recaption.stores import readable

IMAGES = ("jpg", "png", "jpeg", "webp")
"""The members that open_clip takes for the image of a sample."""
MAX_CAPTION_BYTES = 4096
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")
"""What webdataset takes for a key and an extension, and what it leaves out; its own patterns."""
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Check:
    """How to check."""

    caption: str = "txt"
    """The member, or a parquet's column, with the caption."""
    sample: int = 0
    """Images to decode of each shard."""
    seed: int = 0


def check_shard(check: Check, files: list[Path]) -> Checkup:
    """Check a shard.

    Args:
        check: How.
        files: Its tar and the parquet beside it, or a parquet that holds images.
    """
    path = files[0]
    checkup = Checkup(str(path))
    try:
        if path.suffix == ".parquet":
            _check_parquet(check, path, checkup)
        else:
            compare(files, _check_tar(check, path, checkup), checkup)
        if not checkup.pairs:
            checkup.add("shard_empty")
    except (OSError, pa.ArrowException, ValueError) as error:
        checkup.add(f"{'parquet' if path.suffix == '.parquet' else 'shard'}_unreadable", str(error))
    return checkup


def key_of(path: Path, digest: int) -> str:
    """Return the key in a tar that has a digest; a look at headers alone."""
    with mapped(path) as data:
        keys = (sample.key for sample in _samples(data, Checkup(str(path))))
        return next((key for key in keys if digest_of(key) == digest), "")


def digest_of(key: str) -> int:
    """Return the digest that stands for a key."""
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))


# ------------------------------------------------------------------------------------------- tars


def _check_tar(check: Check, path: Path, checkup: Checkup) -> set[str]:
    """Check a tar, and return its keys."""
    chance = random.Random(f"{check.seed} {path.name}")
    drawn: list[Sample] = []
    seen: dict[str, set[str]] = {}
    with mapped(path) as data:
        if bytes(data[:2]) == _GZIP:
            checkup.add("tar_compressed")
            return set()
        before = ""
        for sample in _samples(data, checkup):
            checkup.samples += 1
            _check_key(sample, seen, before, checkup)
            before = sample.key
            checkup.pairs += _check_members(data, sample, check, checkup)
            _draw(drawn, sample, checkup.samples, check.sample, chance)
        for sample in drawn:
            _look_at(data, sample, checkup)
    digests = np.fromiter(map(digest_of, seen), np.uint64, len(seen))
    checkup.keys = np.unique(digests)
    return set(seen)


def _draw(drawn: list[Any], one: Any, number: int, size: int, chance: random.Random) -> None:
    """Keep a fair sample of a stream whose length nobody knows, given its next, from 1 on.

    Vitter 1985, "Random sampling with a reservoir", doi:10.1145/3147.3165, algorithm R.
    """
    if len(drawn) < size:
        drawn.append(one)
    elif size and (at := chance.randrange(number)) < size:
        drawn[at] = one


def _samples(data: memoryview, checkup: Checkup) -> Iterator[Sample]:
    """Yield a tar's samples as webdataset groups them."""

    def split(name: str) -> tuple[str, str]:
        found = None if _META.match(name) else _NAME.match(name)
        if found is None:
            checkup.add("file_ignored", name)
            return "", ""
        if found[1].endswith("/"):
            checkup.add("file_hidden", name)
        return found[1], found[2]

    damage: list[str] = []
    yield from samples(read_members(data, damage), split)
    if damage:
        checkup.add("tar_damaged", damage[0])


def _check_key(sample: Sample, seen: dict[str, set[str]], before: str, checkup: Checkup) -> None:
    """Check that a sample's key is its own."""
    known = seen.setdefault(sample.key, set())
    if known:
        split = known.isdisjoint(sample.members)
        repeated = "name_repeated" if before == sample.key else "key_repeated"
        checkup.add("sample_split" if split else repeated, sample.key)
    known.update(sample.members)
    if "/" in sample.key.removeprefix("./"):
        checkup.add("key_nested", sample.key)


def _check_members(data: memoryview, sample: Sample, check: Check, checkup: Checkup) -> bool:
    """Check a sample's members; say whether it has an image and a caption."""
    kinds = [name for name in sample.members if name in IMAGES]
    checkup.kinds.update(kinds[:1])
    beside = sorted(name for name in sample.members if name not in IMAGES)
    checkup.others[", ".join(beside)] += 1
    if not kinds:
        checkup.add("image_missing", sample.key)
        if dotted := [name for name in beside if name.rpartition(".")[2] in IMAGES]:
            checkup.add("key_dotted", f"{sample.key}.{dotted[0]}")
    elif not sample.members[kinds[0]].size:
        checkup.add("image_empty", sample.key)
    if len(kinds) > 1:
        checkup.add("images_several", f"{sample.key}: {', '.join(kinds)}")
    caption = sample.members.get(check.caption)
    if caption is None:
        checkup.add("caption_missing", sample.key)
    else:
        _check_caption(bytes(data[caption.offset :][: caption.size]), sample.key, checkup)
    return bool(kinds) and caption is not None


def _check_caption(caption: bytes, key: str, checkup: Checkup) -> None:
    if len(caption) > MAX_CAPTION_BYTES:
        checkup.add("caption_long", key)
    try:
        if not caption.decode().strip():
            checkup.add("caption_empty", key)
    except UnicodeDecodeError:
        checkup.add("caption_not_utf8", key)


def _look_at(data: memoryview, sample: Sample, checkup: Checkup) -> None:
    """Decode a sample's image, and parse its json."""
    name = next((name for name in sample.members if name in IMAGE_EXTENSIONS), None)
    checkup.looked_at += 1
    if name and sample.members[name].size:
        _, at, size = sample.members[name]
        _decode(bytes(data[at : at + size]), sample.key, checkup)
    if "json" in sample.members:
        _, at, size = sample.members["json"]
        try:
            json.loads(bytes(data[at : at + size]))
        except (ValueError, RecursionError):
            checkup.add("json_broken", sample.key)


def _decode(image: bytes, key: str, checkup: Checkup) -> None:
    header = read_header(image, Images().max_pixels)
    if header.error == "image_too_large":
        checkup.add("image_too_large", f"{key}, {header.width} x {header.height}")
    elif header.error or not decodes(image, Images().max_pixels):
        checkup.add("image_undecodable", key)


# --------------------------------------------------------------------------------------- parquets


def _check_parquet(check: Check, path: Path, checkup: Checkup) -> None:
    """Check a parquet that holds images; its rows whose download failed are no samples."""
    names = pq.read_schema(readable(path)).names
    chosen = {"caption": check.caption} if check.caption in names else {}
    _, (shard,) = find_shards(str(path), chosen, path / "nothing", captions=False)
    chance, damage = random.Random(f"{check.seed} {path.name}"), list[str]()
    drawn: list[tuple[str, bytes]] = []
    for rows in read_rows(shard, damage):
        table, images = rows.batch, itertools.chain(rows.images, itertools.repeat(None))
        for key, error, image in zip(
            table["key"].to_pylist(), table["error"].to_pylist(), images, strict=False
        ):
            if error == "download_failed":
                continue
            checkup.samples += 1
            checkup.pairs += bool(image) and error is None
            if error:
                checkup.add(_OF_ROWS.get(error, error), key)
            if image:
                _draw(drawn, (key, image), checkup.samples, check.sample, chance)
            else:
                checkup.add("image_missing", key)
    for key, image in drawn:
        checkup.looked_at += 1
        _decode(image, key, checkup)
    if damage:
        checkup.add("parquet_unreadable", damage[0])


_OF_ROWS = {"caption_missing": "caption_empty", "duplicate_key": "key_repeated"}
"""What the reader of rows calls otherwise."""
