"""The pairs that models learn from: decoded once, small, and in memory or in a file of pixels."""

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.held_out import are_held_out
from recaption.pixels import read_square

CHUNK = 256
"""Images in memory as files at once."""

Pair = tuple[str, bytes, str]
"""A sample's key, the bytes of its image, and a caption."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pairs of a crawl, S_w, and then pairs that are known to be clean, S_h."""

    squares: NDArray[np.uint8]
    """(n, 3, px, px), each image brought to a square."""
    keys: list[str]
    captions: list[str]
    num_noisy: int
    """So many, the first ones, are of the crawl."""
    num_undecodable: int
    """So many more were left out, as their images cannot be decoded."""

    @property
    def noisy(self) -> NDArray[np.int64]:
        """The rows of the crawl."""
        return np.arange(self.num_noisy)

    def clean(self, held_out_share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the clean rows to learn from, and those held out, which their keys alone decide.

        Raises:
            RecipeError: Either has fewer than two pairs, or no two captions that differ.
        """
        rows = np.arange(self.num_noisy, len(self.keys))
        held_out = are_held_out((self.keys[row] for row in rows), held_out_share)
        for name, part in (("learnt from", rows[~held_out]), ("held out", rows[held_out])):
            if len({self.captions[row] for row in part}) < 2:
                raise RecipeError(
                    f"clean pairs that are {name} must have two or more different captions, got "
                    f"{len(part):,} of {len(rows):,} pairs, with fewer; give more clean pairs"
                )
        return rows[~held_out], rows[held_out]

    def digest(self, rows: NDArray[np.int64]) -> str:
        """SHA-256, in hex, of the keys and captions of rows, in order."""
        digest = hashlib.sha256()
        for row in rows.tolist():
            for text in (self.keys[row], self.captions[row]):
                digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
        return digest.hexdigest()


def read_corpus(
    noisy: Iterable[Pair], clean: Iterable[Pair], size_px: int, cache: Path | None = None
) -> Corpus:
    """Decode pairs.

    Args:
        noisy: Pairs of the crawl, whose images are of a size to be decoded.
        clean: Pairs that are known to be clean.
        size_px: Side of the squares.
        cache: A file to write the squares to, and then to map into memory, where they are too many
            for it; it is good for nothing else.  None: they stay in memory.

    Raises:
        RecipeError: No pair can be decoded.
    """
    keys: list[str] = []
    captions: list[str] = []
    ends: list[int] = []
    undecodable = 0
    with cache.open("wb") if cache else io.BytesIO() as sink:
        for pairs in (noisy, clean):
            for key, caption, square in _decode(pairs, size_px):
                if square is None:
                    undecodable += 1
                    continue
                keys.append(key)
                captions.append(caption)
                sink.write(square.tobytes())
            ends.append(len(keys))
        squares = np.frombuffer(sink.getvalue(), np.uint8) if isinstance(sink, io.BytesIO) else None
    if not keys:
        raise RecipeError(
            "there must be pairs to learn from, got none that can be decoded and "
            f"{undecodable:,} that cannot; name an input with images"
        )
    if squares is None:
        squares = np.memmap(str(cache), np.uint8, "r")
    shape = (len(keys), 3, size_px, size_px)
    return Corpus(squares.reshape(shape), keys, captions, ends[0], undecodable)


def _decode(
    pairs: Iterable[Pair], size_px: int
) -> Iterator[tuple[str, str, NDArray[np.uint8] | None]]:
    """Decode in threads, in order; None stands for an image that cannot be."""

    def square(pair: Pair) -> NDArray[np.uint8] | None:
        with suppress(Exception):  # Pillow raises far more than OSError on damaged files
            return read_square(pair[1], size_px)
        return None

    rest = iter(pairs)
    with ThreadPoolExecutor() as threads:
        while chunk := list(itertools.islice(rest, CHUNK)):
            for (key, _, caption), pixels in zip(chunk, threads.map(square, chunk), strict=True):
                yield key, caption, pixels


def caption_ids(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Give captions, rows of tokens (n, t), a number each, 0 or more; equal ones have the same."""
    if not len(ids):
        return np.empty(0, np.int64)
    return np.unique(ids, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def batches(rows: NDArray[np.int64], size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Deal rows into batches for ever: each epoch all of them, in a new order that `seed` decides.

    What is left of an epoch that fills no batch is left out; of fewer rows than `size`, all are a
    batch.
    """
    for epoch in itertools.count():
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)
        for first in range(0, len(rows) - min(size, len(rows)) + 1, min(size, len(rows))):
            yield order[first : first + size]
