"""Say in plain words what the simulation found, from its figures alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from train.experiments.simulation.published import FIGURE, SHARES
from train.experiments.simulation.summary import MAIN
from train.experiments.simulation.trial import (
    DENOISED,
    FILTERED,
    FRESH_FILTERED,
    FRESH_RAW,
    NOISY,
    RAW,
)
from train.experiments.simulation.zero_shot import MAIN_TASK

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
    points: int
    difference: float
    """Ours less the paper's, mean."""
    worst: float
    """The largest difference, and where it is."""
    worst_at: float

    @property
    def verdict(self) -> str:
        """Whether the curve matches."""
        if self.within == self.points:
            return "matches"
        return "differs" if self.within < self.points / 2 else "matches in part"


def pick(rows: Sequence[Row], **wanted: Any) -> Row:
    """Return the row that has some values.

    Raises:
        StopIteration: None has.
    """
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def matches(told: Row) -> list[Match]:
    """Compare each curve of the paper's figure with ours, where the shares are the same."""
    return [
        match
        for measure, curves in FIGURE.items()
        for arm, values in curves.items()
        if (match := _match(told, measure, arm, values))
    ]


def _match(told: Row, measure: str, arm: str, values: Sequence[float]) -> Match | None:
    ours = {
        round(row["spurious"], 3): row["mean"]
        for row in told["arms"]
        if (row["variant"], row["arm"], row["measure"]) == (MAIN, arm, COLUMNS[measure])
    }
    apart = {
        share: ours[round(share, 3)] - value
        for share, value in zip(SHARES, values, strict=True)
        if round(share, 3) in ours
    }
    if not apart:
        return None
    worst_at = max(apart, key=lambda share: abs(apart[share]))
    within = sum(abs(one) <= TOLERANCES[measure] for one in apart.values())
    mean = sum(apart.values()) / len(apart)
    return Match(measure, arm, within, len(apart), mean, apart[worst_at], worst_at)


def figure(measure: str, value: float) -> str:
    """Write a value of one of the paper's measures."""
    return f"{value:.{1 if measure == 'purified' else 3 if measure == 'silhouette' else 2}f}"


def reading(told: Row) -> list[str]:
    """Return what the figures say, a sentence or two to each thing."""
    return [
        *_gain(told),
        *_beside_paper(told),
        *_causes(told),
        *_stopping(told),
        *_choices(told),
    ]


def _gain(told: Row) -> Iterator[str]:
    shares = told["setting"]["spurious"]
    for share in (shares[-1], shares[0]):
        parts = []
        for measure in ("purified", "accuracy"):
            raw, after = (
                pick(
                    told["arms"],
                    variant=MAIN,
                    arm=arm,
                    spurious=share,
                    measure=COLUMNS[measure],
                )["mean"]
                for arm in (RAW, FILTERED)
            )
            gain = pick(
                told["gains"],
                variant=MAIN,
                arm=FILTERED,
                spurious=share,
                measure=COLUMNS[measure],
            )
            parts.append(
                f"{_verb(gain)} the {NAMES[measure]} ({figure(measure, raw)} to "
                f"{figure(measure, after)}; {_interval(measure, gain)})"
            )
        lead = "Rewriting the texts" if share == shares[-1] else "The same rewriting"
        yield f"At C_s = {share:g}: {lead.lower()} {' and '.join(parts)}."


def _verb(gain: Row) -> str:
    if gain["low"] > 0:
        return "raises"
    return "lowers" if gain["high"] < 0 else "does not measurably change"


def _interval(measure: str, gain: Row) -> str:
    low, high = (figure(measure, gain[end]) for end in ("low", "high"))
    return f"paired difference {figure(measure, gain['mean'])}, 95% interval {low} to {high}"


def _beside_paper(told: Row) -> Iterator[str]:
    found = matches(told)
    if not found:
        return
    good = [one for one in found if one.verdict == "matches"]
    yield f"Of the paper's {len(found)} curves, ours match {len(good)} at every point."
    for one in found:
        if one.verdict != "matches":
            way = "higher" if one.worst > 0 else "lower"
            yield (
                f"{NAMES[one.measure].capitalize()}, {one.arm}: {one.within} of {one.points} "
                f"points are within {TOLERANCES[one.measure]:g}; ours is {way} by up to "
                f"{figure(one.measure, abs(one.worst))}, at C_s = {one.worst_at:g}."
            )


def _causes(told: Row) -> Iterator[str]:
    """Divide the gain among what the filter changed: which features are named, and the noise."""
    share = max(row["spurious"] for row in told["parts"])
    for measure in ("purified", "accuracy"):
        key = {"variant": MAIN, "spurious": share, "measure": COLUMNS[measure]}
        whole, aligned, clear = (
            pick(told["parts"], arm=arm, **key)["mean"] for arm in (FILTERED, NOISY, DENOISED)
        )
        if whole <= 0:
            yield f"There is no gain in {NAMES[measure]} at C_s = {share:g} to divide."
            continue
        more = "naming the right features" if aligned > clear else "taking the noise away"
        yield (
            f"Why, at C_s = {share:g}: captions with noise added again keep {aligned / whole:.0%} "
            f"of the gain in {NAMES[measure]}; raw texts without their noise, still wrong, have "
            f"{clear / whole:.0%} of it. So {more} does more."
        )
    key = {"variant": MAIN, "arm": FRESH_FILTERED, "spurious": share}
    gain = pick(told["gains"], measure="purified", **key)
    yield (
        f"On samples that are never seen again, rewriting {_verb(gain)} the purified features at "
        f"C_s = {share:g} ({_interval('purified', gain)}): "
        + ("the gain is not only" if gain["low"] > 0 else "the gain may be only")
        + " one of noise that is memorised."
    )


def _stopping(told: Row) -> Iterator[str]:
    """Say what more steps do."""
    curves = [row for row in told["curves"] if row["variant"] == "longer"]
    last, share = (max(row[name] for row in curves) for name in ("step", "spurious"))
    for arm, other, what in (
        (RAW, FILTERED, "on the same samples"),
        (FRESH_RAW, FRESH_FILTERED, "on fresh samples"),
    ):
        best, end = {}, {}
        for one in (arm, other):
            own = [r for r in curves if r["arm"] == one and r["spurious"] == share]
            best[one] = max(row["purified"] for row in own)
            end[one] = pick(own, step=last)["purified"]
        yield (
            f"Trained to step {last} {what} at C_s = {share:g}, raw texts give {end[arm]:.1f} "
            f"purified features (at best {best[arm]:.1f}), rewritten ones {end[other]:.1f} (at "
            f"best {best[other]:.1f})."
        )


def _choices(told: Row) -> Iterator[str]:
    """Say whether the gain stays where the paper's silence is filled otherwise."""
    names = list(dict.fromkeys(row["variant"] for row in told["gains"]))
    share = max(row["spurious"] for row in told["parts"])
    kept: list[str] = []
    others: list[str] = []
    for name in names:
        gain = pick(told["gains"], variant=name, arm=FILTERED, spurious=share, measure="purified")
        (kept if gain["low"] > 0 else others).append(name)
    sentence = (
        f"With the open choices made otherwise, the gain in purified features at C_s = {share:g} "
        f"stays above zero in {len(kept)} of {len(names)} variants"
    )
    yield sentence + (f", not in: {', '.join(others)}." if others else ".")
