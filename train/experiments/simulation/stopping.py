"""Compare arms at other steps than the one that the simulation chose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.experiments.simulation.trial import FILTERED, FRESH_FILTERED, FRESH_RAW, RAW

Row = dict[str, Any]

LONGER = "longer"
"""The variant that trains for more steps than the others."""
PAIRED = {"the same samples": (RAW, FILTERED), "fresh samples": (FRESH_RAW, FRESH_FILTERED)}
"""Raw and rewritten texts, by what is learnt from."""


@dataclass(frozen=True, slots=True)
class Stop:
    """What raw and rewritten texts give where a rule stops them, at the largest C_s."""

    rule: str
    samples: str
    raw: Row
    """Means over trials at the raw arm's step."""
    filtered: Row


def stops(told: Row) -> list[Stop]:
    """Return what each rule gives, on the same samples and on fresh ones."""
    curves = [row for row in told["curves"] if row["variant"] == LONGER]
    share = max(row["spurious"] for row in curves)
    found = []
    for samples, (raw, filtered) in PAIRED.items():
        own = {arm: _curve(curves, arm, share) for arm in (raw, filtered)}
        for rule, steps in _rules(_curve(curves, raw, 0.0), own[raw], own[filtered]).items():
            at = [
                next(row for row in own[arm] if row["step"] == step)
                for arm, step in zip((raw, filtered), steps, strict=True)
            ]
            found.append(Stop(rule, samples, *at))
    return found


def _curve(rows: Sequence[Row], arm: str, share: float) -> list[Row]:
    return [row for row in rows if row["arm"] == arm and row["spurious"] == share]


def _rules(
    aligned: Sequence[Row], raw: Sequence[Row], filtered: Sequence[Row]
) -> dict[str, tuple[int, int]]:
    """Return the steps of both arms by each rule; `aligned` is the raw arm at C_s = 0."""
    largest = max(aligned, key=lambda row: row["magnitude"])["step"]
    smallest = _least_loss(aligned)
    last = raw[-1]["step"]
    return {
        "largest magnitude of raw texts at C_s = 0": (largest, largest),
        "least held-out loss of raw texts at C_s = 0": (smallest, smallest),
        "least held-out loss, each arm its own": (_least_loss(raw), _least_loss(filtered)),
        "the last step": (last, last),
    }


def _least_loss(curve: Sequence[Row]) -> int:
    return int(min(curve, key=lambda row: row["held_out_loss"])["step"])
