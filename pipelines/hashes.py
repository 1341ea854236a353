"""Perceptual hashes: pHash, bit for bit as of `imagehash`, and PDQ, bit for bit as of `pdqhash`.

Both shrink an image's luminance to a small grid and keep the signs of its lowest frequencies, so
that copies of an image differ in few bits.  Where an image has few gradients the signs are chance:
PDQ's quality tells, and 50 is the bound below which its authors call a hash useless.

PDQ: "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", Facebook, 2019;
pHash: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from pipelines.images import guarded, open_image
from recaption.pictures import upright

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

VERSION = 1
"""Of the hashes: another one makes other hashes of the same image."""

BITS = {"phash": 64, "pdq": 256}

MIN_QUALITY = 50
"""Images of a lower PDQ quality are alike by chance. Source: PDQ's authors, who discard them."""

_REDUCED_SIDE_PX = 128
"""Fast hashes look at no more than a JPEG's eighths that leave this much of the shorter side."""

_PHASH_GRID, _PHASH_FREQUENCIES = 32, 8
_PDQ_GRID, _PDQ_FREQUENCIES = 64, 16
_LOWER_MEDIAN = _PDQ_FREQUENCIES**2 // 2 - 1
_PDQ_SIDES_PX = (5, 65_535)
"""PDQ gives smaller images the quality 0; to larger ones no camera comes, but attacks."""

_LOBES = 3
_ORIENTATION = 274
_UPRIGHT, _MIRRORED, _FLIPPED, _TRANSPOSED = 1, (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)
_LUMINANCE: Floats = np.array([0.299, 0.587, 0.114], np.float32)

_NO_PDQ = np.zeros((_PDQ_GRID, _PDQ_GRID), np.float32)


class Grids(NamedTuple):
    """An image's luminance, shrunk as either hash wants it."""

    phash: Pixels
    """(32, 32)"""
    pdq: Floats
    """(64, 64)"""


class Hashes(NamedTuple):
    """The hashes of an image, in hex as `imagehash` and PDQ's tools write them."""

    phash: str
    """16 digits"""
    pdq: str
    """64 digits"""
    pdq_quality: int
    """0 to 100"""


def shrink(data: bytes, max_pixels: int, *, exact: bool) -> Grids | None:
    """Decode an image, upright by its EXIF, and shrink it; None where it cannot be decoded.

    Args:
        data: The image's bytes.
        max_pixels: See `images.open_image`.
        exact: Shrink it as `imagehash.phash` and `pdqhash.compute` do; else a JPEG is decoded no
            larger than needed, at a quarter of the cost, and a few bits of its hashes differ.
    """

    def look() -> Grids:
        with open_image(data, max_pixels) as image:
            reduced = None if exact or image.format != "JPEG" else _reduced(image, data)
            return reduced or _whole(image, [_UPRIGHT])[0]

    return guarded(look, None)


def dihedral(data: bytes, max_pixels: int) -> list[Grids] | None:
    """Shrink the eight images that flips and quarter turns make of an image, itself first."""

    def look() -> list[Grids]:
        with open_image(data, max_pixels) as image:
            return _whole(image, range(_UPRIGHT, 9))

    return guarded(look, None)


def _whole(image: Image.Image, orientations: Sequence[int]) -> list[Grids]:
    """Decode an image whole, and shrink it as if it lay in each of some EXIF orientations."""
    image = upright(image)
    side = (_PHASH_GRID, _PHASH_GRID)
    small = np.asarray(image.convert("L").resize(side, Image.Resampling.LANCZOS))
    eye = np.eye(_PHASH_GRID, dtype=np.uint8)
    if not _has_pdq(image):
        return [Grids(_shrunk(small, eye, eye, n), _NO_PDQ) for n in orientations]
    luminance: Floats = np.asarray(image.convert("RGB"), np.float32) @ _LUMINANCE
    rows, columns = (_pdq_samples(size, size, 1.0) for size in luminance.shape)
    return [
        Grids(_shrunk(small, eye, eye, n), _shrunk(luminance, rows, columns, n))
        for n in orientations
    ]


def _reduced(image: Image.Image, data: bytes) -> Grids | None:
    """Shrink a JPEG while it is decoded; None where only a whole decode can tell what it is."""
    if not _has_pdq(image):
        return None
    side = _REDUCED_SIDE_PX
    try:
        gray = simplejpeg.decode_jpeg(
            data, "GRAY", fastdct=True, fastupsample=True, min_width=side, min_height=side
        )[..., 0]
    except ValueError:  # damaged, or without luminance
        return None
    scale = _scale((image.height, image.width), gray.shape)
    rows = _samples(image.height, gray.shape[0], scale)
    columns = _samples(image.width, gray.shape[1], scale)
    orientation = guarded(lambda: int(image.getexif().get(_ORIENTATION, _UPRIGHT)), _UPRIGHT)
    both = _shrunk(gray.astype(np.float32), rows, columns, orientation)
    levels = np.clip(np.rint(both[:_PHASH_GRID, :_PHASH_GRID]), 0, 255)  # what is flat stays flat
    return Grids(levels.astype(np.uint8), both[_PHASH_GRID:, _PHASH_GRID:])


def _shrunk(
    pixels: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any], orientation: int
) -> NDArray[Any]:
    """Take the samples of an image, turned upright from an EXIF orientation.

    Not the samples are turned but the image: PDQ does not take them symmetrically.
    """
    flipped, mirrored = orientation in _FLIPPED, orientation in _MIRRORED
    if orientation in _TRANSPOSED:
        flipped, mirrored = mirrored, flipped
    samples = (rows[:, ::-1] if flipped else rows) @ pixels
    samples = samples @ (columns[:, ::-1] if mirrored else columns).T
    return samples.T if orientation in _TRANSPOSED else samples


def _has_pdq(image: Image.Image) -> bool:
    return min(image.size) >= _PDQ_SIDES_PX[0] and max(image.size) <= _PDQ_SIDES_PX[1]


def hashes(grids: Grids) -> Hashes:
    """Return the hashes of shrunk luminance."""
    low = dct(dct(grids.phash, axis=0), axis=1)[:_PHASH_FREQUENCIES, :_PHASH_FREQUENCIES]
    phash = np.packbits(low > np.median(low)).tobytes().hex()
    waves = _waves()
    low = waves @ grids.pdq @ waves.T
    half = np.partition(low, _LOWER_MEDIAN, axis=None)[_LOWER_MEDIAN]
    pdq = np.packbits((low > half).ravel()[::-1]).tobytes().hex()
    return Hashes(phash, pdq, _quality(grids.pdq))


def packed(hexes: Sequence[str], bits: int) -> NDArray[np.uint64]:
    """Return hashes in hex as numbers, (n, bits / 64)."""
    raw = np.frombuffer(bytes.fromhex("".join(hexes)), ">u8")
    return raw.astype(np.uint64).reshape(-1, bits // 64)


@lru_cache(1024)
def _samples(size: int, reduced: int, scale: float) -> Floats:
    """Return what takes a line of pixels to both hashes' samples of it, as (32 + 64, reduced)."""
    samples = (_lanczos_samples(size, reduced, scale), _pdq_samples(size, reduced, scale))
    return np.concatenate(samples)


def _lanczos_samples(size: int, reduced: int, scale: float) -> Floats:
    """Return what takes a reduced line to pHash's samples: windowed sinc, of three lobes a side."""
    step = size * scale / _PHASH_GRID  # the last pixel of the line may be a fraction
    centres = (np.arange(_PHASH_GRID) + 0.5)[:, None] * step
    away = (np.arange(reduced) + 0.5 - centres) / max(step, 1)
    weights = np.where(np.abs(away) < _LOBES, np.sinc(away) * np.sinc(away / _LOBES), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(1024)
def _pdq_samples(size: int, reduced: int, scale: float) -> Floats:
    """Return what takes a reduced line to PDQ's samples, as (64, reduced).

    PDQ blurs a line twice by a box of its 128th part, rounded up, and then takes every size / 64th
    pixel.  A reduced line is stretched to its old size before, by linear interpolation.
    """
    window = -(-size // (2 * _PDQ_GRID))
    right = (window + 2) // 2
    taken = ((np.arange(_PDQ_GRID) + 0.5) * size / _PDQ_GRID).astype(int)
    boxed = taken[:, None] + np.arange(right - window, right)
    inside = (boxed >= 0) & (boxed < size)
    low, high = np.clip(boxed + right - window, 0, size), np.minimum(size, boxed + right)
    weight = inside / (inside.sum(axis=1, keepdims=True) * np.maximum(1, high - low))
    line = np.arange(_PDQ_GRID)[:, None] * (size + 1)
    ends = np.concatenate([line + low, line + np.maximum(low, high)], axis=None)
    edges = np.bincount(ends, np.concatenate([weight, -weight], axis=None), line[-1, 0] + size + 1)
    blurred = np.cumsum(edges.reshape(_PDQ_GRID, -1)[:, :-1], axis=1)
    places = np.clip((np.arange(size) + 0.5) * scale - 0.5, 0, reduced - 1)
    before = np.minimum(places.astype(int), reduced - 2)
    part = places - before
    starts = np.searchsorted(before, np.arange(reduced - 1))
    samples = np.zeros((_PDQ_GRID, reduced))
    samples[:, :-1] += np.add.reduceat(blurred * (1 - part), starts, axis=1)
    samples[:, 1:] += np.add.reduceat(blurred * part, starts, axis=1)
    return samples.astype(np.float32)


@cache
def _waves() -> Floats:
    """Return the 16 lowest cosines of 64 samples but for the constant, (16, 64)."""
    wave = np.arange(1, _PDQ_FREQUENCIES + 1)[:, None]
    sample = 2 * np.arange(_PDQ_GRID) + 1
    cosines = np.cos(np.pi / (2 * _PDQ_GRID) * wave * sample)
    return (np.sqrt(2 / _PDQ_GRID) * cosines).astype(np.float32)


def _quality(grid: Floats) -> int:
    """Return how much gradient there is, from 0 to 100: PDQ's quality."""
    steps = (np.trunc(np.diff(grid, axis=axis) * 100 / 255) for axis in (0, 1))
    return min(100, int(sum(np.abs(step).sum() for step in steps) / 90))


def _scale(shape: tuple[int, ...], reduced: tuple[int, ...]) -> float:
    """Return by how many eighths a JPEG was scaled down while it was decoded."""
    for eighths in range(1, 8):
        if tuple(-(-side * eighths // 8) for side in shape) == reduced:
            return eighths / 8
    return 1.0
