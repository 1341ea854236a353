"""Means, intervals and paired differences are the textbook's."""

import math

import numpy as np
import pytest
from scipy import stats

from train.experiments.evidence.figures import figure, paired


def test_an_interval_is_that_of_students_t() -> None:
    values = [0.3, 0.45, 0.41, 0.38]

    one = figure(values)

    told = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((told.low, told.high))
    assert one.mean == pytest.approx(sum(values) / 4)
    assert one.above
    assert not one.below


def test_a_paired_difference_is_that_of_the_paired_test() -> None:
    rng = np.random.default_rng(0)
    left, shared = rng.normal(0, 1, 5), rng.normal(0, 10, 5)

    one = paired([*(left + shared)], [*shared])

    told = stats.ttest_rel(left + shared, shared).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((told.low, told.high))


def test_one_seed_has_a_mean_and_no_interval_and_none_has_neither() -> None:
    assert figure([0.5]).mean == 0.5
    assert math.isnan(figure([0.5]).low)
    assert not figure([0.5]).above
    assert figure([math.nan]).seeds == 0
    assert math.isnan(figure([]).mean)


def test_a_seed_that_failed_is_left_out() -> None:
    assert figure([0.2, math.nan, 0.4]) == figure([0.2, 0.4])
