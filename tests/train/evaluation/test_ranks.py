"""Ranks: those of a plain sort, ties in any order, and nothing for what has nothing right."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.evaluation.colours import directions, unit
from train.evaluation import ranks
from train.evaluation.ranks import found_in, found_within


@given(st.data())
def test_ties_are_worth_what_all_orders_are_worth_on_average(data: st.DataObject) -> None:
    num = data.draw(st.integers(1, 5))
    scores = data.draw(st.lists(st.integers(0, 2), min_size=num, max_size=num))
    right = data.draw(st.lists(st.booleans(), min_size=num, max_size=num))
    k = data.draw(st.integers(1, num))

    found = ranks._found(np.array([scores], float), np.array([right]), [k])[0, 0]  # noqa: SLF001

    hits = []
    for order in itertools.permutations(range(num)):
        nearest = sorted(order, key=lambda item: -scores[item])  # a stable sort
        hits.append(any(right[item] for item in nearest[:k]))
    if any(right):
        assert found == pytest.approx(sum(hits) / len(hits))
    else:
        assert np.isnan(found)


def test_untied_ranks_are_those_of_a_plain_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_CELLS", 120)  # three queries at once
    queries, items = directions(17, 6), directions(40, 6, seed=1)
    right = np.random.default_rng(2).random((17, 40)) < 0.1

    found = found_within(queries, items, lambda rows: right[rows], (1, 5, 10))

    order = np.argsort(-(queries @ items.T), axis=1)
    for query in range(17):
        if not right[query].any():
            assert np.isnan(found[query]).all()
            continue
        for place, k in enumerate((1, 5, 10)):
            assert found[query, place] == right[query, order[query, :k]].any()


def test_equal_vectors_are_found_by_chance_alone() -> None:
    same = unit(np.ones((50, 7)))

    found = found_within(same, same, lambda rows: np.eye(50, dtype=bool)[rows], (1, 5))

    np.testing.assert_allclose(found.mean(axis=0), [1 / 50, 5 / 50])


def test_nothing_finds_itself() -> None:
    vectors = directions(6, 4)
    right = np.eye(6, dtype=bool) | np.roll(np.eye(6, dtype=bool), 1, axis=1)

    found = found_within(vectors, vectors, lambda rows: right[rows], (5,), itself=True)

    assert found.tolist() == [[1.0]] * 6


def test_the_right_class_is_found_among_the_first() -> None:
    cosines = np.array([[0.1, 0.3, 0.2], [0.5, 0.5, 0.1]])

    found = found_in(cosines, np.array([2, 0]), (1, 2))

    assert found.tolist() == [[0, 1], [0.5, 1]]
