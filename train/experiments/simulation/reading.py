"""Say in plain words what the simulation found, from its figures alone."""

from collections.abc import Iterator
from typing import Any

from train.experiments.simulation.matching import (
    COLUMNS,
    NAMES,
    Match,
    distances,
    matches,
    pick,
)
from train.experiments.simulation.stopping import PAIRED, stops
from train.experiments.simulation.summary import MAIN
from train.experiments.simulation.trial import DENOISED, FILTERED, FRESH_FILTERED, NOISY, RAW

Row = dict[str, Any]

NEARER = 0.9
"""Of the distance to the paper, at most, for another way to be called nearer."""
_DIGITS = {"purified": 1, "silhouette": 3}


def figure(measure: str, value: float) -> str:
    """Write a value of one of the paper's measures."""
    digits = _DIGITS.get(measure, 2)
    return f"{round(value, digits) + 0.0:.{digits}f}"  # never -0


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
    if one.verdict == "shifted":
        way = "higher" if one.difference > 0 else "lower"
        apart = f"the same course, {figure(one.measure, abs(one.difference))} {way}"
    else:
        way = "higher" if one.worst > 0 else "lower"
        apart = f"up to {figure(one.measure, abs(one.worst))} {way}, at C_s = {one.worst_at:g}"
    return f"{NAMES[one.measure]} ({one.arm}), {apart}"


def _nearer(told: Row) -> Iterator[str]:
    """Name, of each measure that does not match, the way that comes nearest to the paper."""
    apart = {one.measure for one in matches(told) if one.verdict != "matches"}
    for measure in NAMES:
        found = distances(told, measure)
        if measure not in apart or MAIN not in found:
            continue
        best = min(found, key=found.__getitem__)
        here, there = (f"{found[name]:.2g}" for name in (MAIN, best))
        told_best = f"{best}, {there} from the paper on average, in place of {here}."
        if found[best] > NEARER * found[MAIN]:
            told_best = f"nothing that was tried, beyond {here} from the paper on average."
        yield f"{NAMES[measure].capitalize()}: {told_best}"


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
    lead = f"In trials of twice the length, at C_s = {_largest(told):g}, on"
    for samples in PAIRED:
        found = [one for one in stops(told) if one.samples == samples]
        won = [
            sum(one.filtered[COLUMNS[measure]] > one.raw[COLUMNS[measure]] for one in found)
            for measure in ("purified", "accuracy")
        ]
        last = found[-1]
        raw, after = (
            f"{row['purified']:.1f} and {row[COLUMNS['accuracy']]:.2f}"
            for row in (last.raw, last.filtered)
        )
        yield (
            f"{lead} {samples}, rewritten texts give more purified features under {won[0]} of "
            f"{len(found)} rules, and a higher accuracy under {won[1]}; at the last step, "
            f"{last.raw['step']}, raw texts give {raw}, rewritten ones {after}."
        )
        lead = "On"


def _choices(told: Row) -> Iterator[str]:
    """Say whether the gain stays where the paper's silence is filled otherwise."""
    share = _largest(told)
    for measure in ("purified", "accuracy"):
        gains = {
            row["variant"]: row
            for row in told["gains"]
            if (row["arm"], row["spurious"], row["measure"]) == (FILTERED, share, COLUMNS[measure])
            and row["variant"] != MAIN
        }
        kept = [name for name, row in gains.items() if row["low"] > 0]
        means = [row["mean"] for row in gains.values()]
        others = ", ".join(name for name in gains if name not in kept)
        yield (
            f"The gain in {NAMES[measure]} at C_s = {share:g} is above zero, with its interval, in "
            f"{len(kept)} of {len(gains)} variants ({figure(measure, min(means))} to "
            f"{figure(measure, max(means))}" + (f"; not in: {others})." if others else ").")
        )
