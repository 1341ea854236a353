"""Judge what was gathered: differences of arms, checks that can fail, and a reading in words."""

import math
from collections.abc import Iterator
from typing import Any

from train.experiments.evidence.figures import Figure, figure, paired

Told = dict[str, Any]

DIFFERENCES = (
    ("recaptioned", "raw"),
    ("capfilt", "raw"),
    ("itm", "raw"),
    ("rules", "raw"),
    ("recaptioned", "itm"),
    ("capfilt", "itm"),
    ("threshold-mix", "itm"),
    ("capfilt", "recaptioned"),
    ("recaptioned", "h-only"),
    ("clean", "capfilt"),
)
"""Pairs of arms that are compared, seed by seed."""
READ = (
    ("recaptioned", "raw"),
    ("recaptioned", "itm"),
    ("recaptioned", "h-only"),
    ("itm", "h-only"),
)
"""Those that are told in words."""
MIN_CLEAN_GAIN = 0.2
"""Clean captions must beat raw ones by so much on seen classes, or there is nothing to win."""
MIN_SPURIOUS_SHARE = 0.7
"""Of the true margin that the raw arm's spurious margin must be, or nothing is to be removed."""
MIN_AUC = 0.9
"""Of the filter model, clean raw captions against noisy ones."""
MAX_LATE_GAIN = 0.05
"""Of accuracy on seen classes that an arm may gain in the last quarter of its steps."""
METRICS = ("acc1", "colour_acc1", "shape_acc1", "true_margin", "spurious_margin", "silhouette")
SPACE = ("alignment", "image_uniformity", "image_neuron_purity", "text_neuron_purity")


def values(told: Told, cell: str, arm: str, group: str, metric: str) -> dict[int, float]:
    """Return a metric of an arm in a cell by seed; NaN where it is missing."""
    found = {}
    for run in told["runs"]:
        if (run["cell"], run["arm"], run["variant"]) == (cell, arm, None):
            value = run["metrics"].get(group, {}).get(metric)
            found[run["seed"]] = math.nan if value is None else float(value)
    return found


def mean(told: Told, cell: str, arm: str, group: str, metric: str) -> Figure:
    """Return the mean of a metric over seeds."""
    found = figure([*values(told, cell, arm, group, metric).values()])
    return found.within(0, 1) if metric.endswith("acc1") else found


def difference(told: Told, cell: str, arms: tuple[str, str], group: str, metric: str) -> Figure:
    """Return how much the first of two arms is above the second, seed by seed."""
    left, right = (values(told, cell, arm, group, metric) for arm in arms)
    seeds = sorted(left.keys() & right.keys())
    return paired([left[seed] for seed in seeds], [right[seed] for seed in seeds])


def cells(told: Told) -> list[str]:
    """Return the names of the cells, in the order of the grid."""
    return list(dict.fromkeys(run["cell"] for run in told["runs"] if run["variant"] is None))


def title(told: Told, cell: str) -> str:
    """Return what a cell is called on a page."""
    return str(next(run["title"] for run in told["runs"] if run["cell"] == cell))


def arms(told: Told, cell: str) -> list[str]:
    """Return the arms that were run in a cell, in their order."""
    some = [run for run in told["runs"] if (run["cell"], run["variant"]) == (cell, None)]
    return list(dict.fromkeys(str(run["arm"]) for run in some))


def checks(told: Told) -> list[Told]:
    """Return what must hold for the figures to mean anything.

    Returns:
        For each check its `name`, whether it `passed`, and what was found, in words.  What cannot
        be judged, as its arms were not run, is left out.
    """
    return [
        {"name": name, "passed": passed, "found": found}
        for check in (_noise, _steps, _clean, _spurious, _auc, _plateau)
        for name, passed, found in check(told)
    ]


def _noise(told: Told) -> Iterator[tuple[str, bool, str]]:
    worst = 0.0
    for one in told["captions"]:
        asked, said = one["shares"], one["noise"]
        chance = 0.1 * asked["other_image"]  # another picture's caption may be the partner's
        worst = max(worst, abs(said["true"] - (1 - sum(asked.values()))))
        worst = max(worst, asked["partner"] - said["partner"])
        worst = max(worst, said["partner"] - asked["partner"] - chance)
    if told["captions"]:
        name = "Raw captions are wrong as often as was asked for"
        found = f"told by their words, at most {100 * worst:.2f} points off in any corpus"
        yield name, worst <= len(asked) / said["rows"] + 1e-9, found


def _steps(told: Told) -> Iterator[tuple[str, bool, str]]:
    some = [run for run in told["runs"] if run["variant"] is None]
    for name, key in (("steps", "steps"), ("pairs in a batch", "batch"), ("tokens", "vocabulary")):
        found = sorted({str(run[key])[:12] for run in some})
        yield f"All arms have the same {name}", len(found) == 1, ", ".join(found)


def _clean(told: Told) -> Iterator[tuple[str, bool, str]]:
    for cell in cells(told):
        gain = difference(told, cell, ("clean", "raw"), "seen", "acc1")
        if gain.seeds:
            asked = f"Clean captions beat raw ones by {100 * MIN_CLEAN_GAIN:.0f} points"
            name = f"{asked}: {title(told, cell)}"
            yield name, gain.mean >= MIN_CLEAN_GAIN, f"{100 * gain.mean:.1f} points"


def _spurious(told: Told) -> Iterator[tuple[str, bool, str]]:
    """Judge the noisiest cells alone: it is there that the theory sees both features."""
    most = max((run["partner"] for run in told["runs"]), default=0)
    noisiest = {run["cell"] for run in told["runs"] if run["partner"] == most}
    for cell in (cell for cell in cells(told) if cell in noisiest):
        true = mean(told, cell, "raw", "seen", "true_margin")
        wrong = mean(told, cell, "raw", "seen", "spurious_margin")
        if true.seeds:
            name = f"Raw captions teach the spurious feature, too: {title(told, cell)}"
            share = wrong.mean / true.mean if true.mean > 0 else math.nan
            found = f"spurious margin {wrong.mean:.3f}, {share:.2f} of the true one"
            yield name, share >= MIN_SPURIOUS_SHARE, found


def _auc(told: Told) -> Iterator[tuple[str, bool, str]]:
    for cell in cells(told):
        some = [one for one in told["captions"] if (one["cell"], one["variant"]) == (cell, None)]
        known = [one["auc"]["noisy"] for one in some if one["auc"]["noisy"] is not None]
        if known:
            name = f"The filter model tells clean captions from noisy ones, AUC above {MIN_AUC:g}"
            found = f"from {min(known):.3f} to {max(known):.3f}"
            yield f"{name}: {title(told, cell)}", min(known) > MIN_AUC, found


def _plateau(told: Told) -> Iterator[tuple[str, bool, str]]:
    gains = {
        curve["arm"]: curve["accuracy"][-1]["seen"] - curve["accuracy"][-2]["seen"]
        for curve in told["curves"]
        if len([point for point in curve["accuracy"] if "seen" in point]) > 1
    }
    if gains:
        arm = max(gains, key=lambda one: gains[one])
        name = f"No arm gains {100 * MAX_LATE_GAIN:.0f} points in the last quarter of its steps"
        found = f"{100 * gains[arm]:+.1f} points at most ({arm})"
        yield name, gains[arm] <= MAX_LATE_GAIN, found


def reading(told: Told) -> list[str]:
    """Say in words what the intervals allow to be said: where recaptioning wins, and loses."""
    sentences = []
    for cell in cells(told):
        for left, right in READ:
            parts = []
            for group in ("seen", "held-out"):
                gain = difference(told, cell, (left, right), group, "acc1")
                if gain.seeds:
                    parts.append(f"{_verdict(gain)} on {group} classes ({points(gain)})")
            if parts:
                sentences.append(
                    f"{title(told, cell)}: {left} against {right}: {'; '.join(parts)}."
                )
    return sentences


def _verdict(gain: Figure) -> str:
    if gain.above:
        return "wins"
    if gain.below:
        return "loses"
    if gain.seeds == 1:
        return "ahead" if gain.mean >= 0 else "behind"
    return f"{'ahead' if gain.mean >= 0 else 'behind'}, but within chance"


def points(gain: Figure) -> str:
    """Return a difference of shares, in percentage points, with its interval."""
    if math.isnan(gain.low):
        return f"{100 * gain.mean:+.1f} points, one seed"
    return f"{100 * gain.mean:+.1f} points, {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"


def rows(told: Told) -> list[Told]:
    """Return a row of figures for each cell and arm, of all metrics and groups."""
    return [
        {
            "cell": cell,
            "arm": arm,
            "figures": {
                group: {name: mean(told, cell, arm, group, name) for name in (*METRICS, *SPACE)}
                for group in ("seen", "held-out")
            },
        }
        for cell in cells(told)
        for arm in arms(told, cell)
    ]


def differences(told: Told) -> list[Told]:
    """Return all paired differences of accuracy whose arms were run."""
    found = []
    for cell in cells(told):
        known = arms(told, cell)
        for pair in DIFFERENCES:
            for group in ("seen", "held-out") if set(pair) <= set(known) else ():
                gain = difference(told, cell, pair, group, "acc1")
                found.append({"cell": cell, "arms": pair, "group": group, "figure": gain})
    return found


def captions(told: Told) -> list[Told]:
    """Return the mean figures of the captions of each cell."""
    found: list[Told] = []
    for cell in cells(told):
        some = [one for one in told["captions"] if (one["cell"], one["variant"]) == (cell, None)]
        if some:
            parts = {
                **{
                    f"{who} precision": [one["precision"].get(who) for one in some]
                    for who in ("raw", "synthetic", "chosen")
                },
                "AUC": [one["auc"]["noisy"] for one in some],
                "raw accepted": [one["raw_acceptance"] for one in some],
                "synthetic accepted": [one["synthetic_acceptance"] for one in some],
                "unique synthetic": [
                    one["unique"]["synthetic"] / max(1, one["written"]["synthetic"]) for one in some
                ],
            }
            found.append(
                {"cell": cell}
                | {k: figure([x for x in v if x is not None]) for k, v in parts.items()}
            )
    return found
