"""Samples of tars as webdataset, img2dataset and clip_benchmark write them."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filters.rule import RecipeError
from pipelines.tars import Sample, read_members, samples
from train.evaluation.images import SUFFIXES, Place

_TEXTS = ("cls", "json", "txt")


@dataclass(frozen=True, slots=True)
class TarSample:
    """A sample: where its image lies, and what is said of it."""

    key: str
    image: Place | None
    texts: dict[str, str]
    """By extension: `cls`, `json`, `txt`."""


def read_samples(path: Path, damage: list[str]) -> Iterator[TarSample]:
    """Yield the samples of a tar, also of a damaged one.

    Args:
        path: The tar.
        damage: Takes a sentence for each damaged place.

    Raises:
        RecipeError: It cannot be opened.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            found = [_sample(one, view, path) for one in samples(read_members(view, damage))]
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise RecipeError(f"{path} must be a tar, got: {error}; correct it") from None
    yield from found


def _sample(sample: Sample, data: memoryview, path: Path) -> TarSample:
    image = next((m for name, m in sample.members.items() if f".{name}" in SUFFIXES), None)
    texts = {
        name: bytes(data[m.offset : m.offset + m.size]).decode("utf-8", "replace")
        for name, m in sample.members.items()
        if name in _TEXTS
    }
    return TarSample(sample.key, image and Place(path, image.offset, image.size), texts)
