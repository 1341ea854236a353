"""The filter's threshold: found as a scan of all of them finds it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recaption.calibration import calibrate, measure_auc

scores = st.lists(st.sampled_from([k / 8 for k in range(9)]), min_size=1, max_size=12)
shares = st.floats(0.05, 0.95)


@given(scores, scores, scores, shares, shares)
def test_the_threshold_is_that_of_a_plain_scan(
    positives: list[float], near: list[float], far: list[float], precision: float, prior: float
) -> None:
    found = calibrate(
        np.array(positives), {"near": np.array(near), "far": np.array(far)}, precision, prior
    )

    scanned = []
    for threshold in sorted(set(positives)):
        recall = sum(p >= threshold for p in positives) / len(positives)
        passed = [sum(n >= threshold for n in kind) / len(kind) for kind in (near, far)]
        right, wrong = prior * recall, (1 - prior) * sum(passed) / 2
        scanned.append((threshold, right / (right + wrong), recall))
    own = next(row for row in scanned if row[0] == found.threshold)
    assert (found.precision, found.recall) == pytest.approx(own[1:])
    if found.reached:  # and no lower threshold does, but for what rounding makes of a tie
        assert own[1] >= precision - 1e-9
        assert all(row[1] < precision + 1e-9 for row in scanned if row[0] < found.threshold)
    else:
        assert own[1] == pytest.approx(max(row[1] for row in scanned))
        assert own[1] < precision + 1e-9


@given(scores, scores)
def test_auc_is_the_share_of_pairs_in_the_right_order(
    positives: list[float], negatives: list[float]
) -> None:
    wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]

    auc = measure_auc(np.array(positives), np.array(negatives))

    assert auc == pytest.approx(sum(wins) / len(wins))


def test_what_was_found_is_told_with_its_numbers() -> None:
    positives = np.array([0.9, 0.8, 0.7, 0.2])
    negatives = {"near": np.array([0.75, 0.1]), "shuffled": np.array([0.1, 0.2, 0.1, 0.1])}

    found = calibrate(positives, negatives, precision=0.9, prior=0.5)

    assert found.threshold == 0.8
    assert found.precision == 1
    assert found.recall == 0.5
    assert found.auc == {"near": 0.75, "shuffled": 1 - 0.5 / 16}
    assert (found.num_positives, found.num_negatives) == (4, {"near": 2, "shuffled": 4})


def test_a_precision_out_of_reach_is_told() -> None:
    found = calibrate(np.array([0.5, 0.5]), {"near": np.array([0.5])}, precision=0.9, prior=0.5)

    assert (found.reached, found.precision, found.recall) == (False, 0.5, 1)
