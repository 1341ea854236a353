"""Rates: intervals as in textbooks, and wider ones where trials are alike."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pipelines.rates import Rate, at_most, rate, rate_of_groups, rate_of_pairs


def test_an_interval_is_that_of_clopper_and_pearson() -> None:
    # NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.4.1: 4 of 20 defective, but at 90 %;
    # the 95 % limits are those of its table in Clopper and Pearson, Biometrika 26 (1934).
    found = rate(4, 20)

    assert found[:3] == (4, 20, 0.2)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0573, 0.4366)


@pytest.mark.parametrize(("count", "of"), [(0, 7), (1, 7), (7, 7), (45, 200), (199, 200)])
def test_an_interval_is_scipys_exact_one(count: int, of: int) -> None:
    found = rate(count, of)

    expected = binomtest(count, of).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_without_trials_nothing_is_known() -> None:
    assert rate(0, 0) == Rate(0, 0, None, 0.0, 1.0)
    assert at_most(rate(0, 0)) == 1.0


def test_of_no_outcome_the_bound_is_the_rule_of_three() -> None:
    assert at_most(rate(0, 100_000)) == pytest.approx(3 / 100_000, rel=0.01)
    assert at_most(rate(2, 100)) == rate(2, 100).high


def test_groups_that_are_wholly_alike_count_for_one_trial_each() -> None:
    alike = np.repeat([[True], [False], [True], [True], [False]] * 4, 10, axis=1)

    found = rate_of_groups(alike)

    assert found[:3] == (120, 200, 0.6)
    assert (found.low, found.high) == pytest.approx(rate(12, 20)[3:], abs=0.02)


def test_groups_whose_trials_have_nothing_in_common_count_for_all_their_trials() -> None:
    chance = np.random.default_rng(0)
    mixed = np.stack([chance.permutation([True] * 6 + [False] * 4) for _ in range(20)])

    assert rate_of_groups(mixed) == rate(120, 200)


@pytest.mark.parametrize("all_found", [True, False])
def test_groups_without_an_exception_count_for_one_trial_each(all_found: bool) -> None:
    outcomes = np.full((20, 30), all_found)

    found = rate_of_groups(outcomes)

    assert found[:3] == (600 * all_found, 600, float(all_found))
    assert (found.low, found.high) == pytest.approx(rate(20 * all_found, 20)[3:])


def test_matches_of_one_image_are_less_sure_than_those_of_several() -> None:
    apart = rate_of_pairs(np.array([1, 1, 1, 1, 0, 0]), 100)
    together = rate_of_pairs(np.array([4, 0, 0, 0, 0, 0]), 100)

    assert apart == rate(4, 600)
    assert together[:3] == apart[:3]
    assert together.low < apart.low < apart.high < together.high
    assert rate_of_pairs(np.zeros(6, int), 100) == rate(0, 600)
