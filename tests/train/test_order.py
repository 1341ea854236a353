"""Order: every sample once in an epoch, units of a block mixed, and nothing but seed and place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.order import Order

SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=12)


def order(units: list[tuple[int, int]], seed: int = 0, **limits: int) -> Order:
    rows, sizes = (np.array(part) for part in zip(*units, strict=True))
    return Order(rows, sizes, seed, **({"max_units": 3, "max_bytes": 6} | limits))


def places(of: Order, first: int, count: int) -> list[tuple[int, int, int]]:
    return [
        (block.epoch, *block.place(position))
        for block, positions in of.samples(first, count)
        for position in positions
    ]


@given(units=SIZES, seed=st.integers(0, 2**32))
def test_every_sample_comes_once_in_each_epoch(units: list[tuple[int, int]], seed: int) -> None:
    every = [(unit, row) for unit, (rows, _) in enumerate(units) for row in range(rows)]

    found = places(order(units, seed), 0, 3 * len(every))

    for epoch in range(3):
        some = found[epoch * len(every) : (epoch + 1) * len(every)]
        assert {place[0] for place in some} == {epoch}
        assert sorted(place[1:] for place in some) == every


@given(units=SIZES, first=st.integers(0, 60), count=st.integers(1, 30))
def test_any_part_can_be_asked_for_alone(
    units: list[tuple[int, int]], first: int, count: int
) -> None:
    assert places(order(units), first, count) == places(order(units), 0, 90)[first : first + count]


@given(units=SIZES, max_units=st.integers(1, 4), max_bytes=st.integers(1, 9))
def test_a_block_is_no_larger_than_it_may_be(
    units: list[tuple[int, int]], max_units: int, max_bytes: int
) -> None:
    blocks = order(units, max_units=max_units, max_bytes=max_bytes).samples(0, 100)

    for block, _ in blocks:
        size = sum(units[unit][1] for unit in block.units)
        assert len(block.units) <= max_units
        assert size <= max_bytes or len(block.units) == 1


def test_the_rows_of_a_block_are_mixed_evenly() -> None:
    of = order([(100, 0)] * 4, max_units=4)
    firsts = np.array([[row for _, _, row in places(of, e * 400, 40)] for e in range(50)])

    # of 2,000 draws from 0 to 99 the mean is 49.5, with a standard error of 0.65
    assert abs(firsts.mean() - 49.5) < 4 * 0.65


@pytest.mark.parametrize(("seed", "first"), [(1, 0), (0, 400)])
def test_another_seed_or_epoch_has_another_order(seed: int, first: int) -> None:
    units = [(100, 0)] * 4

    usual = [place[1:] for place in places(order(units), 0, 400)]

    assert [place[1:] for place in places(order(units, seed), first, 400)] != usual
