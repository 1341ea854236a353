"""Stop a run that has gone wrong, while its last good checkpoint is still good."""

import math
from collections import deque
from typing import Any

from filters.rule import RecipeError

WINDOW = 100
"""Steps whose mean loss is held against that of other steps.

Ours: at a batch of 64 the loss of one step of the sample varies by some tenths, and that of 100 by
hundredths, of the 8 or so that chance gives.
"""
BEGUN = 0.9
"""Share of chance's loss that a run must have come below before it can be said to climb back."""


class Guard:
    """Watches the loss of each step.

    It stops a run whose loss, or gradient, is no finite number, and one whose mean loss has gone
    more than half of the way back from its best to that of a model that knows nothing.
    """

    def __init__(self, batch: int) -> None:
        """Take the number of pairs that are told from one another.

        A model that knows nothing gives each the probability 1 / batch, in both directions, and
        label smoothing, which spreads the targets evenly, changes nothing in that.
        """
        self._chance = 2 * math.log(batch)
        self._best = math.inf
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def check(self, step: int, loss: float, gradient_norm: float) -> None:
        """Judge a step, before the weights learn from it.

        Raises:
            RecipeError: The run has gone wrong.
        """
        for name, value in (("loss", loss), ("gradient's norm", gradient_norm)):
            if not math.isfinite(value):
                raise RecipeError(
                    f"the {name} must be a finite number, got {value} at step {step:,}; lower "
                    "optimizer.learning_rate, raise optimizer.warmup_steps or set "
                    "clip_norm; the last checkpoint is good"
                )
        self._losses.append(loss)
        if len(self._losses) < WINDOW:
            return
        mean = sum(self._losses) / WINDOW
        self._best = min(self._best, mean)
        if self._best < BEGUN * self._chance and mean > (self._best + self._chance) / 2:
            raise RecipeError(
                f"the loss must not climb back to that of chance, {self._chance:.2f}, got "
                f"{mean:.2f} as the mean of {WINDOW} steps at step {step:,}, after "
                f"{self._best:.2f}; lower optimizer.learning_rate, or go on from an earlier "
                "checkpoint"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the rest of a run depends on."""
        return {"best": self._best, "losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._best = state["best"]
        self._losses = deque(state["losses"], maxlen=WINDOW)
