"""Read the images of an evaluation; what cannot be read is counted, and ends nothing."""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from filters.recipe import Images
from filters.rule import RecipeError
from recaption.pictures import FORMATS, read_rgb
from train.evaluation.encoder import Floats, checked

FAULTS = {
    "missing": "no file at that place",
    "undecodable": "not an image, a damaged one, or of a format that browsers do not show",
    "too_large": "more pixels than are decoded",
}
"""Why an image takes no part."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
MAX_PIXELS = Images().max_pixels
"""As a filter job has it where its recipe says nothing."""

_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies: a file, or a part of one."""

    path: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Return its bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


Source = Place | bytes


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of some images."""

    vectors: Floats
    """Float32, (n, d); of those that could be read."""
    at: NDArray[np.int64]
    """Their places among the images, ascending."""
    faults: dict[str, int]
    """How many of the others had which of `FAULTS`."""


def embed(encode: Callable[[Sequence[bytes]], Floats], sources: Sequence[Source]) -> Embedded:
    """Encode images, some at once, without those that cannot be read.

    Raises:
        RecipeError: None of them can be read, or an embedding is not finite.
    """
    parts: list[Floats] = []
    places: list[int] = []
    faults: Counter[str] = Counter()
    batches = range(0, len(sources), _AT_ONCE)
    for first in tqdm(batches, "images", unit="batch", leave=False, disable=None):
        images = dict(_read(sources, first, faults))
        if images:
            vectors, good = _encoded(encode, images, faults)
            parts += [vectors] if good else []
            places += good
    if not places:
        why = ", ".join(f"{number} {name}" for name, number in faults.items()) or "none at all"
        raise RecipeError(f"images must be readable, got {why}; correct the path")
    return Embedded(checked(np.concatenate(parts), "images"), np.array(places), dict(faults))


def _read(
    sources: Sequence[Source], first: int, faults: Counter[str]
) -> Iterator[tuple[int, bytes]]:
    """Yield the images of one batch whose header says that they can be decoded."""
    for place, source in enumerate(sources[first : first + _AT_ONCE], first):
        try:
            data = source if isinstance(source, bytes) else source.read()
        except OSError:
            faults["missing"] += 1
            continue
        fault = header_fault(data)
        if fault:
            faults[fault] += 1
        else:
            yield place, data


def header_fault(data: bytes) -> str | None:
    """Return which of `FAULTS` the header of an image tells, if one."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=FORMATS) as image,
        ):
            return "too_large" if image.width * image.height > MAX_PIXELS else None
    except Image.DecompressionBombError:
        return "too_large"
    except Exception:  # Pillow raises far more than OSError on hostile files
        return "undecodable"


def _encoded(
    encode: Callable[[Sequence[bytes]], Floats], images: dict[int, bytes], faults: Counter[str]
) -> tuple[Floats, list[int]]:
    """Encode a batch, without the images that it fails for."""
    found = [*_halved(encode, [*images.items()])]
    if not found:
        if all(map(_decodes, images.values())):  # the encoder's fault, not theirs
            encode([*images.values()])
        faults["undecodable"] += len(images)
        return np.empty((0, 0)), []
    good = [place for places, _ in found for place in places]
    if len(good) < len(images):
        faults["undecodable"] += len(images) - len(good)
    return np.concatenate([vectors for _, vectors in found]), good


def _halved(
    encode: Callable[[Sequence[bytes]], Floats], images: list[tuple[int, bytes]]
) -> Iterator[tuple[list[int], Floats]]:
    """Encode images; if that fails, each half of them, down to the one that it fails for."""
    try:
        vectors = encode([data for _, data in images])
    except Exception:  # decoders raise far more than OSError on hostile files
        middle = len(images) // 2
        if middle:
            yield from _halved(encode, images[:middle])
            yield from _halved(encode, images[middle:])
        return
    yield [place for place, _ in images], vectors


def _decodes(data: bytes) -> bool:
    try:
        read_rgb(data)
    except Exception:  # Pillow raises far more than OSError on hostile files
        return False
    return True
