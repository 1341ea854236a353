"""How far a figure may be from what other images of the same kind would give."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
COVERAGE = 0.95
_SEED = 0

Weights = NDArray[np.float64]


def interval(
    measure: Callable[[Weights], NDArray[np.float64]], num_images: int
) -> tuple[float, float]:
    """Return the ends of the bootstrap's interval: 1000 resamples of the images, 95 %.

    It tells what chance in the choice of test images does, and nothing of training seeds.  Source:
    Efron, "Bootstrap methods: another look at the jackknife", 1979; the percentile method.

    Args:
        measure: Of weights (resamples, images), how often each image is drawn, the figure of each
            resample.
        num_images: How many there are.
    """
    generator = np.random.default_rng(_SEED)
    step = max(1, (1 << 23) // num_images)
    figures = []
    for first in range(0, RESAMPLES, step):
        draws = min(step, RESAMPLES - first)
        drawn = generator.multinomial(num_images, np.full(num_images, 1 / num_images), draws)
        figures.append(measure(drawn.astype(np.float64)))
    tail = (1 - COVERAGE) / 2
    low, high = np.nanquantile(np.concatenate(figures), [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(
    values: NDArray[np.float64], of: NDArray[np.int64] | None = None, num_images: int = 0
) -> tuple[float, float]:
    """Return the interval of a mean.

    Args:
        values: Of each image, or of each text.
        of: The image of each text; texts of one image are drawn together.
        num_images: How many images there are where `of` is given.
    """
    if of is None:
        of, num_images = np.arange(len(values)), len(values)
    sums = np.bincount(of, values, num_images)
    counts = np.bincount(of, minlength=num_images).astype(np.float64)
    return interval(lambda weights: (weights @ sums) / np.maximum(weights @ counts, 1), len(sums))
