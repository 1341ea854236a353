"""Lay our curves beside the paper's, and look for what would bring them nearer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from train.experiments.simulation.published import FIGURE, SHARES
from train.experiments.simulation.stopping import PAIRED
from train.experiments.simulation.summary import MAIN
from train.experiments.simulation.zero_shot import MAIN_TASK, TASKS

Row = dict[str, Any]

TOLERANCES = {"purified": 3.0, "magnitude": 0.1, "accuracy": 0.05, "silhouette": 0.02}
"""How far a point may be from the paper's: about a tenth of what its curves span; ours."""
NAMES = {
    "purified": "purified features",
    "magnitude": "mean magnitude",
    "accuracy": "accuracy",
    "silhouette": "silhouette",
}
COLUMNS = {
    "purified": "purified",
    "magnitude": "magnitude",
    "accuracy": f"accuracy_{MAIN_TASK}",
    "silhouette": f"silhouette_{MAIN_TASK}",
}
"""The measure, as it is stored, of each of the paper's."""


@dataclass(frozen=True, slots=True)
class Match:
    """How one of our curves lies beside the paper's."""

    measure: str
    arm: str
    within: int
    """Points whose difference is within the tolerance."""
    within_shifted: int
    """The same, once the mean difference is taken away."""
    points: int
    difference: float
    """Ours less the paper's, mean."""
    worst: float
    """The largest difference."""
    worst_at: float
    """The C_s of it."""

    @property
    def verdict(self) -> str:
        """Whether the curve matches."""
        if self.within == self.points:
            return "matches"
        if self.within_shifted == self.points:
            return "shifted"
        return "differs" if self.within < self.points / 2 else "matches in part"


def pick(rows: Iterable[Row], **wanted: Any) -> Row:
    """Return the first row that has some values."""
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def matches(told: Row) -> list[Match]:
    """Compare each curve of the paper's figure with ours, where C_s is the same."""
    found = []
    for measure, curves in FIGURE.items():
        for arm in curves:
            apart = _apart(told["arms"], measure, arm, (MAIN, arm, COLUMNS[measure]))
            if apart:
                worst_at = max(apart, key=lambda share, by=apart: abs(by[share]))  # type: ignore[misc]
                mean = sum(apart.values()) / len(apart)
                within, shifted = (
                    sum(abs(one - shift) <= TOLERANCES[measure] for one in apart.values())
                    for shift in (0, mean)
                )
                counts = within, shifted, len(apart)
                found.append(Match(measure, arm, *counts, mean, apart[worst_at], worst_at))
    return found


def _apart(
    rows: Sequence[Row], measure: str, arm: str, ours: tuple[str, str, str]
) -> dict[float, float]:
    """Return our mean less the paper's, by C_s; `ours` is a variant, an arm and a column."""
    means = {
        round(row["spurious"], 3): row["mean"]
        for row in rows
        if (row["variant"], row["arm"], row["measure"]) == ours
    }
    paper = zip(SHARES, FIGURE[measure][arm], strict=True)
    return {share: means[share] - value for share, value in paper if share in means}


def distances(told: Row, measure: str) -> dict[str, float]:
    """Return how far each way to fill the paper's silence is from its two curves.

    Returns:
        The mean absolute difference at the C_s that the sweeps have, both arms together: of the
        main trials, of each sweep, of fresh samples and, of what is classified, of each other task.
    """
    shares = {row["spurious"] for row in told["parts"]}
    ways = {variant: (variant, "the same samples", COLUMNS[measure]) for variant in _variants(told)}
    ways["fresh samples"] = (MAIN, "fresh samples", COLUMNS[measure])
    if measure in ("accuracy", "silhouette"):
        ways |= {
            f"test images: {task}": (MAIN, "the same samples", f"{measure}_{task}")
            for task in TASKS
            if task != MAIN_TASK
        }
    found = {}
    for name, (variant, samples, column) in ways.items():
        apart = [
            abs(difference)
            for arm, own in zip(("raw", "filtered"), PAIRED[samples], strict=True)
            for share, difference in _apart(
                told["arms"], measure, arm, (variant, own, column)
            ).items()
            if share in shares
        ]
        if apart:
            found[name] = sum(apart) / len(apart)
    return found


def _variants(told: Row) -> list[str]:
    return list(dict.fromkeys(row["variant"] for row in told["arms"]))
