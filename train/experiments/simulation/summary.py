"""Sum up trials: means, deviations and intervals at the step of comparison, and curves."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from train.evaluation.intervals import mean_interval
from train.experiments.simulation.trial import FRESH_FILTERED, FRESH_RAW, NOISY, RAW

MAIN = "main"
MEASURES = (
    "purified",
    "magnitude",
    "accuracy_lead_3",
    "silhouette_lead_3",
    "accuracy_lead_2",
    "silhouette_lead_2",
    "accuracy_alone",
    "silhouette_alone",
    "held_out_loss",
)

Row = dict[str, Any]


def summarise(rows: Sequence[Row], captions: Sequence[Row]) -> dict[str, list[Row]]:
    """Return tables of all that was measured.

    Returns:
        `stops`: the step at which each trial is compared.  `arms`: all measures there.  `gains`:
        paired, of each arm over raw texts; `parts`: the same, of trials with controls alone.
        `captions`: what they name.  `curves`: means over trials at every step.
    """
    stops = comparison_steps(rows)
    at_stop = [row for row in rows if row["step"] == stops[row["variant"], row["trial"]]]
    gains = list(_gains(at_stop))
    controlled = {_place(row) for row in at_stop if row["arm"] == NOISY}
    by_arm = ("variant", "arm", "spurious")
    told_of_captions = [
        name for name in captions[0] if name.startswith(("wrong", "missed", "replaced"))
    ]
    return {
        "stops": [
            {"variant": variant, "trial": trial, "step": step}
            for (variant, trial), step in stops.items()
        ],
        "arms": table(at_stop, by_arm, MEASURES),
        "gains": table(gains, by_arm, MEASURES),
        "parts": table([row for row in gains if _place(row) in controlled], by_arm, MEASURES),
        "captions": table(captions, ("variant", "spurious"), told_of_captions),
        "curves": _means(rows, (*by_arm, "step")),
    }


def _gains(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield what each arm has over raw texts in the same trial, fresh arms over fresh ones."""
    raw = {(row["arm"], *_place(row)): row for row in rows if row["arm"] in (RAW, FRESH_RAW)}
    for row in rows:
        base = FRESH_RAW if row["arm"] == FRESH_FILTERED else RAW
        if row["arm"] not in (RAW, FRESH_RAW):
            other = raw[base, *_place(row)]
            yield row | {name: row[name] - other[name] for name in MEASURES}


def comparison_steps(rows: Sequence[Row]) -> dict[tuple[str, int], int]:
    """Return the step of each variant's trial at which C_s = 0's raw magnitude is largest."""
    best: dict[tuple[str, int], Row] = {}
    for row in rows:
        key = row["variant"], row["trial"]
        if row["arm"] == RAW and row["spurious"] == 0:
            best[key] = max(best.get(key, row), row, key=lambda one: one["magnitude"])
    return {key: row["step"] for key, row in best.items()}


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("variant", "trial", "spurious"))


def _grouped(rows: Sequence[Row], by: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row)
    return groups


def table(rows: Sequence[Row], by: Sequence[str], measures: Sequence[str]) -> list[Row]:
    """Return, of each group of rows and each measure, its mean, deviation and 95 % interval.

    The deviation is that of trials, with n - 1; the interval is the bootstrap's, of their mean.
    """
    told = []
    for key, group in _grouped(rows, by).items():
        for measure in measures:
            values = np.array([row[measure] for row in group], np.float64)
            values = values[np.isfinite(values)]
            if len(values):
                low, high = mean_interval(values)
                figures = {
                    "mean": float(values.mean()),
                    "low": low,
                    "high": high,
                    "trials": len(values),
                }
                figures["sd"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                told.append(dict(zip(by, key, strict=True)) | {"measure": measure} | figures)
    return told


def _means(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    return [
        dict(zip(by, key, strict=True))
        | {name: float(np.mean([row[name] for row in group])) for name in MEASURES}
        for key, group in _grouped(rows, by).items()
    ]
