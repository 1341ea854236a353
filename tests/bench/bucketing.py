"""Say how many similar pairs ALIGN's buckets never compare.

Brute force compares them all.  Two images share a bucket if their ten nearest clusters have three
in common, which is the likelier, the more alike they are, and the fewer clusters there are.
"""

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from pipelines.buckets import SHARED, kmeans, nearest_clusters
from tests.bench import detectors
from tests.bench.detectors import Matrix, Say

CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing"
CLUSTERS = (100, 1000, 4000)
BANDS = (1.01, 0.99, 0.975, 0.95, 0.9, 0.8)
"""Of cosines, the highest first."""
SIZE_PX = 128

COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half size": lambda image: ImageOps.scale(image, 0.5),
    "crop 10 %": lambda image: _crop(image, 0.05),
    "crop 30 %": lambda image: _crop(image, 0.15),
    "flip": ImageOps.mirror,
    "rotate 5": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
    "border": lambda image: ImageOps.expand(image, image.width // 10, "white"),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
}


def title(say: Say) -> None:
    """Print what the lines are about."""
    say("\nLoss by buckets of three: the share of near-duplicates compared, by clusters")
    say("(where there are fewer vectors to make clusters of, each of them is one)")
    say(f"{'':72}{'pairs':>7}" + "".join(f"{clusters:>8,}" for clusters in CLUSTERS))


def measure(name: str, left: Matrix, right: Matrix, others: Matrix, say: Say) -> None:
    """Print the share of pairs, of `left` and `right` row by row, that share a bucket.

    Args:
        name: What made the vectors.
        left: One side of each pair.
        right: The other side.
        others: Vectors that the clusters are made of.
        say: Prints a line.
    """
    cosines = np.einsum("pd,pd->p", left, right)
    compared = [_compared(left, right, kmeans(others, clusters)) for clusters in CLUSTERS]
    _line(name, "all", np.ones(len(left), bool), compared, say)
    for high, low in pairwise(BANDS):
        band = (cosines > low) & (cosines <= high)
        if band.any():
            _line("", f"cosine above {low:.3f}", band, compared, say)


def measure_copies(folder: Path, say: Say) -> None:
    """Print the same for photographs and changed copies of them."""
    if not CLOTHING.is_dir():
        say("Skipped: photographs need ../shared/data/clothing")
        return
    embed = detectors.efficientnet(folder, SIZE_PX)
    photographs = _read("test")
    clusters = embed(_read("train"))
    originals = embed(photographs)
    copies = [
        embed([_changed(image, change) for image in photographs]) for change in COPIES.values()
    ]
    name = f"copies of photographs, EfficientNet-lite0, {SIZE_PX} px"
    measure(name, np.tile(originals, (len(COPIES), 1)), np.concatenate(copies), clusters, say)


def _compared(left: Matrix, right: Matrix, centroids: Matrix) -> NDArray[np.bool_]:
    sides = nearest_clusters(left, centroids), nearest_clusters(right, centroids)
    shared = (sides[0][:, :, None] == sides[1][:, None, :]).sum(axis=(1, 2))
    return np.asarray(shared >= SHARED)


def _line(
    name: str, band: str, rows: NDArray[np.bool_], compared: Sequence[NDArray[np.bool_]], say: Say
) -> None:
    shares = "".join(f"{some[rows].mean():>8.1%}" for some in compared)
    say(f"{name:<52}{band:<20}{rows.sum():>7,}{shares}")


def _read(split: str) -> list[bytes]:
    tars = sorted((CLOTHING / split).glob("*.tar"))
    return [image for tar in tars for _, image in detectors.read_tar(tar)]


def _changed(image: bytes, change: Callable[[Image.Image], Image.Image]) -> bytes:
    sink = io.BytesIO()
    change(detectors.open_rgb(image)).save(sink, "JPEG", quality=80)
    return sink.getvalue()


def _crop(image: Image.Image, share: float) -> Image.Image:
    """Cut a share off each side."""
    return ImageOps.crop(image, int(share * min(image.size)))
