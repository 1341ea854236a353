"""A run that has gone wrong is stopped, and one that merely wavers is not."""

import math
import re

import pytest

from filters.rule import RecipeError
from train.guards import WINDOW, Guard

CHANCE = 2 * math.log(64)


def watched(guard: Guard, losses: list[float]) -> None:
    for step, loss in enumerate(losses, 1):
        guard.check(step, loss, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_or_a_gradient_that_is_no_number_stops_the_run(value: float) -> None:
    with pytest.raises(
        RecipeError, match=rf"the loss must be a finite number, got {value} at step"
    ):
        Guard(64).check(7, value, 1.0)
    with pytest.raises(RecipeError, match=r"the gradient's norm must be a finite number, got"):
        Guard(64).check(7, 1.0, value)


def test_a_loss_that_climbs_back_towards_chance_stops_the_run() -> None:
    guard = Guard(64)
    watched(guard, [2.0] * WINDOW)

    with pytest.raises(RecipeError, match=re.escape("must not climb back to that of chance, 8.32")):
        watched(guard, [CHANCE] * WINDOW)


def test_a_loss_that_comes_back_less_than_half_of_the_way_stops_nothing() -> None:
    guard = Guard(64)

    watched(guard, [2.0] * WINDOW + [(2.0 + CHANCE) / 2 - 0.01] * 3 * WINDOW)


def test_a_run_that_has_not_begun_to_learn_is_not_stopped() -> None:
    watched(Guard(64), [CHANCE * share for share in [1.2, 0.95, 1.1] for _ in range(WINDOW)])


def test_a_guard_that_was_stored_remembers_the_best() -> None:
    before, after = Guard(64), Guard(64)
    watched(before, [2.0] * WINDOW)

    after.load_state_dict(before.state_dict())

    with pytest.raises(RecipeError, match=re.escape("after 2.00")):
        watched(after, [CHANCE] * WINDOW)
