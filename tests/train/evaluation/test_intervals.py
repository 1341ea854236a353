"""Intervals: those of scipy's bootstrap; captions of one image are drawn together."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from train.evaluation.intervals import mean_interval


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).random(300) ** 3

    low, high = mean_interval(values)

    theirs = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_captions_of_one_image_are_no_evidence_of_their_own() -> None:
    values = (np.random.default_rng(0).random(100) < 0.4).astype(float)

    each = mean_interval(values)
    five_alike = mean_interval(np.repeat(values, 5), np.repeat(np.arange(100), 5), 100)

    assert five_alike == pytest.approx(each)


def test_images_of_more_captions_weigh_more() -> None:
    of = np.array([0] * 9 + [1])

    low, high = mean_interval(np.array([1.0] * 9 + [0.0]), of, 2)

    assert (low, high) == (0, 1)
