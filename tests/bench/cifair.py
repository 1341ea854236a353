"""Say how many duplicates that people found are found: recall at equal rates of false matches.

The images are CIFAR-10's, of 32 px, and the pairs are ciFAIR's.  Not every pair of images was
judged, and what looks like a false match may be a true one, so the false matches are counted twice:
among all pairs that are not listed, and among those whose test image has no listed partner.
"""

import csv
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tests.bench import bucketing, detectors
from tests.bench.detectors import Matrix, Measure, Say

DATA = Path(__file__).parents[3] / "shared" / "data"
FALSE_RATES = (1e-6, 1e-5, 1e-4)
SHEET = (8, 12)
"""Rows and columns of the pictures of unlisted matches."""


class Truth(NamedTuple):
    """The images and what people said about pairs of them."""

    tests: list[bytes]
    pool: list[bytes]
    test: NDArray[np.int64]
    partner: NDArray[np.int64]
    near_duplicate: NDArray[np.bool_]
    """The others of the listed pairs are "very similar"."""

    def unlisted(self, alike: Matrix, *, partnerless: bool) -> Matrix:
        """Return how alike the pairs are that nobody listed; minus infinity where one did."""
        others = alike.copy()
        others[self.test, self.partner] = -np.inf
        return np.delete(others, self.test, axis=0) if partnerless else others


def measure(folder: Path, say: Say, sheet: Path | None) -> None:
    """Print the tables.

    Args:
        folder: Where to put models.
        say: Prints a line.
        sheet: Where to put a picture of the unlisted pairs that are most alike, if anywhere.
    """
    if not (DATA / "cifair").is_dir():
        say("\nSkipped: the human-judged pairs need ../shared/data/cifair")
        return
    truth = _read()
    embeddings = _measure_recall(folder, truth, say)
    if not embeddings:
        return
    name, (tests, pool) = list(embeddings.items())[-1]
    if sheet:
        _draw(truth, tests @ pool.T, sheet)
        say(f"\nUnlisted matches by the {name}: {sheet}")
    bucketing.title(say)
    near = truth.near_duplicate
    for name, (tests, pool) in embeddings.items():
        bucketing.measure(name, tests[truth.test[near]], pool[truth.partner[near]], pool, say)
    bucketing.measure_copies(folder, say)


def _measure_recall(folder: Path, truth: Truth, say: Say) -> dict[str, tuple[Matrix, Matrix]]:
    """Print each detector's recall, and return the vectors of those that embed."""
    _title(say, truth)
    embeddings = {}
    for name, look in _detectors(folder, truth, say):
        start = time.process_time()
        tests, pool = look(truth.tests), look(truth.pool)
        rate = (len(tests) + len(pool)) / (time.process_time() - start)
        if look is detectors.pixel_distance:
            tests = detectors.other_side(tests)
        say(f"{name:<36}{_recalls(truth, tests @ pool.T)}{rate:>9,.0f}")
        if look.__name__ == "encode":
            embeddings[name] = tests, pool
    if any("*" in name for name in embeddings):
        say("* chosen by these very pairs, among 80 depths, sizes and ways to pool; the others not")
    return embeddings


def _detectors(folder: Path, truth: Truth, say: Say) -> Iterator[tuple[str, Measure]]:
    yield "pixels, L2, mean removed", detectors.pixel_distance
    yield "pixels, cosine, mean removed", detectors.pixels
    yield "phash of imagehash", detectors.phash
    if importlib.util.find_spec("pdqhash"):
        yield "PDQ, enlarged to 256 px", detectors.pdq
    else:
        say("Skipped: PDQ needs pdqhash")
    if not importlib.util.find_spec("torch"):
        say("Skipped: the embeddings need torch; pip install -e '.[recaption]'")
        return
    import torch

    torch.set_num_threads(1)
    if detectors.has_efficientnet(say):
        for size_px in (64, 128):
            yield (
                f"EfficientNet-lite0, {size_px} px, pooled",
                detectors.efficientnet(folder, size_px),
            )
        yield "its first 5 blocks, 64 px, 4 x 4 *", detectors.efficientnet(folder, 64, blocks=5)
    start = time.process_time()
    trained = detectors.self_trained(folder, truth.pool)
    say(f"  trained for {time.process_time() - start:,.0f} s of CPU on the pool, without pairs:")
    yield "small network, NT-Xent", trained


def _read() -> Truth:
    (tests, test_places), (pool, pool_places) = map(_read_images, ("eval", "pool"))
    with (DATA / "cifair" / "pairs.csv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    return Truth(
        tests,
        pool,
        np.array([test_places[pair["eval_url"]] for pair in pairs]),
        np.array([pool_places[pair["pool_url"]] for pair in pairs]),
        np.array([pair["judgment"] == "near-duplicate" for pair in pairs]),
    )


def _read_images(side: str) -> tuple[list[bytes], dict[str, int]]:
    images: list[bytes] = []
    places: dict[str, int] = {}
    for path in sorted((DATA / "cifair" / side).glob("*.parquet")):
        table = pq.read_table(path, columns=["key", "url"])
        urls = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
        for key, image in detectors.read_tar(path.with_suffix(".tar")):
            places[urls[key]] = len(images)
            images.append(image)
    return images, places


def _recalls(truth: Truth, alike: Matrix) -> str:
    listed = alike[truth.test, truth.partner]
    cells = []
    for partnerless in (False, True):
        others = truth.unlisted(alike, partnerless=partnerless).ravel()
        for rate in FALSE_RATES:
            place = len(others) - int(rate * len(others)) - 1
            found = listed > np.partition(others, place)[place]
            near, similar = found[truth.near_duplicate], found[~truth.near_duplicate]
            cells.append(f"{near.mean():>8.1%} {similar.mean():>4.0%}")
    return "".join(cells)


def _title(say: Say, truth: Truth) -> None:
    near = int(truth.near_duplicate.sum())
    say(
        f"\nHuman-judged pairs of 32-px images: {near} near-duplicates, and "
        f"{len(truth.test) - near} very similar; recall of both, at rates of false matches\n"
        f"among all pairs of {len(truth.tests):,} test and {len(truth.pool):,} pool images that "
        "are not listed, and those of test images without a listed partner"
    )
    rates = "".join(f"{rate:>13.0e}" for rate in FALSE_RATES)
    say(f"{'':36}{rates}{rates}  per CPU s")


def _draw(truth: Truth, alike: Matrix, path: Path) -> None:
    """Draw the most similar pairs without a listed one, side by side."""
    others = truth.unlisted(alike, partnerless=False)
    others[truth.test] = -np.inf
    rows, columns = SHEET
    sheet = Image.new("RGB", (columns * 140, rows * 76), "white")
    for place, pair in enumerate(np.argsort(-others, axis=None)[: rows * columns].tolist()):
        sides = truth.tests[pair // len(truth.pool)], truth.pool[pair % len(truth.pool)]
        for side, image in enumerate(sides):
            corner = (place % columns * 140 + side * 66, place // columns * 76)
            sheet.paste(detectors.open_rgb(image).resize((64, 64)), corner)
    sheet.save(path)
