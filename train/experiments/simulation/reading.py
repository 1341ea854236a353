"""Say in plain words what the simulation found, from its figures alone."""

from collections.abc import Iterator
from typing import Any

from train.experiments.simulation.matching import (
    COLUMNS,
    NAMES,
    TOLERANCES,
    Match,
    distances,
    matches,
    pick,
)
from train.experiments.simulation.stopping import PAIRED, stops
from train.experiments.simulation.summary import MAIN
from train.experiments.simulation.trial import DENOISED, FILTERED, FRESH_FILTERED, NOISY, RAW

Row = dict[str, Any]

_DIGITS = {"purified": 1, "silhouette": 3}


def figure(measure: str, value: float) -> str:
    """Write a value of one of the paper's measures."""
    return f"{value:.{_DIGITS.get(measure, 2)}f}"


def reading(told: Row) -> dict[str, str]:
    """Return what the figures say, by subject."""
    parts = {
        "The gain": _gain(told),
        "The paper's figure": _beside_paper(told),
        "What would bring it nearer": _nearer(told),
        "Aligned, or only clear": _causes(told),
        "When to stop": _stopping(told),
        "Open choices": _choices(told),
    }
    said = {subject: " ".join(sentences) for subject, sentences in parts.items()}
    return {subject: text for subject, text in said.items() if text}


def _gain(told: Row) -> Iterator[str]:
    shares = told["setting"]["spurious"]
    for share, lead in ((shares[-1], "rewriting the texts"), (shares[0], "the same")):
        parts = []
        for measure in ("purified", "accuracy"):
            key = {"variant": MAIN, "spurious": share, "measure": COLUMNS[measure]}
            raw, after = (
                figure(measure, pick(told["arms"], arm=arm, **key)["mean"])
                for arm in (RAW, FILTERED)
            )
            gain = pick(told["gains"], arm=FILTERED, **key)
            parts.append(
                f"{_verb(gain)} the {NAMES[measure]} ({raw} to {after}; {_paired(measure, gain)})"
            )
        yield f"At C_s = {share:g}, {lead} {' and '.join(parts)}."


def _verb(gain: Row) -> str:
    if gain["low"] > 0:
        return "raises"
    return "lowers" if gain["high"] < 0 else "does not measurably change"


def _paired(measure: str, gain: Row) -> str:
    mean, low, high = (figure(measure, gain[name]) for name in ("mean", "low", "high"))
    return f"paired difference {mean}, 95% interval {low} to {high}"


def _beside_paper(told: Row) -> Iterator[str]:
    found = matches(told)
    if not found:
        return
    good = [f"{NAMES[one.measure]} ({one.arm})" for one in found if one.verdict == "matches"]
    yield (
        f"Of its {len(found)} curves, ours match {len(good)} at every point"
        + (f": {', '.join(good)}." if good else ".")
    )
    others = [_apart(one) for one in found if one.verdict != "matches"]
    if others:
        yield f"The others: {'; '.join(others)}."


def _apart(one: Match) -> str:
    way = "higher" if one.worst > 0 else "lower"
    return (
        f"{NAMES[one.measure]} ({one.arm}), {one.within} of {one.points} points within "
        f"{TOLERANCES[one.measure]:g}, up to {figure(one.measure, abs(one.worst))} {way}, at "
        f"C_s = {one.worst_at:g}"
    )


def _nearer(told: Row) -> Iterator[str]:
    """Name, of each measure that does not match, the way that comes nearest to the paper."""
    apart = {one.measure for one in matches(told) if one.verdict != "matches"}
    for measure in NAMES:
        found = distances(told, measure)
        if measure in apart and MAIN in found:
            best = min(found, key=found.__getitem__)
            here, there = (f"{found[name]:.2g}" for name in (MAIN, best))
            yield f"{NAMES[measure].capitalize()}: " + (
                f"none of the other ways tried is nearer ({here} from the paper, mean)."
                if best == MAIN
                else f"{best} ({there} from the paper, mean, in place of {here})."
            )


def _causes(told: Row) -> Iterator[str]:
    """Divide the gain among what the filter changed: which features are named, and the noise."""
    share = _largest(told)
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
            f"Of the gain in {NAMES[measure]} at C_s = {share:g}, captions with noise added again "
            f"keep {aligned / whole:.0%}; raw texts without their noise, still wrong, have "
            f"{clear / whole:.0%}: {more} does more."
        )
    key = {"variant": MAIN, "arm": FRESH_FILTERED, "spurious": share}
    gain = pick(told["gains"], measure="purified", **key)
    yield (
        f"On samples that are never seen again, rewriting {_verb(gain)} the purified features "
        f"({_paired('purified', gain)})."
    )


def _largest(told: Row) -> float:
    """Return the largest C_s that has controls."""
    return float(max(row["spurious"] for row in told["parts"]))


def _stopping(told: Row) -> Iterator[str]:
    """Say whether the gain depends on the step."""
    for samples in PAIRED:
        found = [one for one in stops(told) if one.samples == samples]
        won = sum(one.gain > 0 for one in found)
        last = found[-1]
        yield (
            f"On {samples} at C_s = {_largest(told):g}, rewritten texts give more purified "
            f"features under {won} of {len(found)} rules; at the last step, {last.raw['step']}, "
            f"raw texts give {last.raw['purified']:.1f}, rewritten ones "
            f"{last.filtered['purified']:.1f}."
        )


def _choices(told: Row) -> Iterator[str]:
    """Say whether the gain stays where the paper's silence is filled otherwise."""
    share = _largest(told)
    gains = {
        row["variant"]: row["low"]
        for row in told["gains"]
        if (row["arm"], row["spurious"], row["measure"]) == (FILTERED, share, "purified")
    }
    others = [name for name, low in gains.items() if low <= 0]
    yield (
        f"The gain in purified features at C_s = {share:g} is above zero, with its interval, in "
        f"{len(gains) - len(others)} of {len(gains)} ways to fill the paper's silence"
        + (f"; not with: {', '.join(others)}." if others else ".")
    )
