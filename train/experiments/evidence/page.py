"""The results page of an experiment: what came out, how sure that is, and what it rests on."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from pipelines.classes import GROUPS
from pipelines.page import NONE, pages
from recaption.files import write_text
from train.experiments.evidence import charts, judge
from train.experiments.evidence.figures import Figure
from train.experiments.evidence.grid import ARMS

Told = dict[str, Any]

COLUMNS = {
    "acc1": ("Top-1", 100),
    "colour_acc1": ("Colour", 100),
    "shape_acc1": ("Shape", 100),
    "true_margin": ("True margin", 1),
    "spurious_margin": ("Spurious margin", 1),
    "silhouette": ("Silhouette", 1),
    "alignment": ("Alignment", 1),
    "image_uniformity": ("Uniformity", 1),
    "image_neuron_purity": ("Overlap, images", 1),
    "text_neuron_purity": ("Overlap, texts", 1),
}
"""Headings of metrics, and what they are multiplied by."""
THREATS = (
    "S_h is drawn from the same pictures as S_w, which is kind to the captioner; a real clean set "
    "is of another kind.",
    "Captions are made of few templates: text is easy, and a captioner has little to learn.",
    "The noise is planted: the partner of a class is the same everywhere.",
    "The filter model has learnt from S_h, too, and so have all arms.",
    "All arms take equal steps, which favours those with easy text and few pairs.",
    "The learning rate falls to 0, so that a curve is flat at its end whatever it could still "
    "learn; the ablation of steps, where it was run, says more.",
    "Intervals are of few seeds, by Student's t, and each cell has the same seeds as the others.",
)


def write_page(told: Told, out: Path) -> Path:
    """Write `report/index.html` and return its path.

    Args:
        told: As `gather` returns it, with `maps`.
        out: The experiment's folder.
    """
    first = judge.cells(told)[0]
    columns = _columns(told)
    page = _template().render(
        out=str(out),
        grid=told["grid"],
        cells=[_cell(told, cell, columns) for cell in judge.cells(told)],
        checks=judge.checks(told),
        reading=judge.reading(told),
        captions=[_captions(told, one) for one in judge.captions(told)],
        losses=charts.curves(told["curves"], "loss"),
        accuracies=charts.curves(told["curves"], "accuracy"),
        maps={arm: charts.scatter(some, arm) for arm, some in told["maps"].items()},
        variants=_variants(told, first),
        columns=[COLUMNS[name][0] for name in columns],
        arms=ARMS,
        threats=THREATS,
        first=judge.title(told, first),
        made_of=json.dumps({k: told[k] for k in ("altmill", "environment", "grid")}, indent=1),
    )
    path = out / "report" / "index.html"
    write_text(path, page)
    return path


def _columns(told: Told) -> list[str]:
    """Return the metrics that there are figures of: a class that was found has no colour."""
    known = {name for run in told["runs"] for one in run["metrics"].values() for name in one}
    return [name for name in COLUMNS if name in known]


def _groups(told: Told) -> list[str]:
    known = {group for run in told["runs"] for group in run["metrics"]}
    return [group for group in GROUPS if group in known]


def _cell(told: Told, cell: str, columns: Sequence[str]) -> Told:
    rows = [row for row in judge.rows(told) if row["cell"] == cell]
    differences = [one for one in judge.differences(told) if one["cell"] == cell]
    return {
        "name": judge.title(told, cell),
        "lines": [
            {
                "arm": row["arm"],
                "group": group,
                "cells": [
                    number(row["figures"][group][name], COLUMNS[name][1]) for name in columns
                ],
            }
            for row in rows
            for group in row["figures"]
            if row["figures"][group]["acc1"].seeds
        ],
        "accuracy": charts.arm_accuracy(
            [
                {"arm": row["arm"], "groups": {g: f["acc1"] for g, f in row["figures"].items()}}
                for row in rows
            ]
        ),
        "forest": charts.forest(differences),
    }


def number(one: Figure, scale: float) -> tuple[str, str]:
    """Return a mean, and its interval where it has one, as they are shown."""
    digits = 1 if scale == 100 else 3
    if not math.isfinite(one.mean):
        return NONE, ""
    ends = [f"{scale * end:.{digits}f}" for end in (one.low, one.high)]
    return f"{scale * one.mean:.{digits}f}", "" if math.isnan(one.low) else " to ".join(ends)


def _captions(told: Told, one: Mapping[str, Any]) -> Told:
    return {
        "cell": judge.title(told, one["cell"]),
        "figures": {
            name: number(value.within(0, 1), 1 if name == "AUC" else 100)
            for name, value in one.items()
            if isinstance(value, Figure)
        },
    }


def _variants(told: Told, cell: str) -> list[Told]:
    """Return what ablations found, beside the same arms of the first cell and seed."""
    seed, lines = told["grid"]["seeds"][0], []
    for run in told["runs"]:
        if run["variant"] is None:
            continue
        base = _accuracies(told["runs"], cell, seed, run["arm"])
        here = {group: one.get("acc1") for group, one in run["metrics"].items()}
        captions = [one for one in told["captions"] if one["variant"] == run["variant"]]
        precision = captions[0]["precision"].get("synthetic") if captions else None
        lines.append(
            {
                **{name: run[name] for name in ("factor", "variant", "arm", "steps")},
                "precision": _percent(precision),
                "cells": [
                    (_percent(here.get(group)), _percent(base.get(group)))
                    for group in ("seen", "held-out")
                ],
            }
        )
    return lines


def _accuracies(runs: Sequence[Told], cell: str, seed: int, arm: str) -> Told:
    for run in runs:
        if (run["cell"], run["seed"], run["arm"], run["variant"]) == (cell, seed, arm, None):
            return {group: one.get("acc1") for group, one in run["metrics"].items()}
    return {}


def _percent(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{100 * value:.1f}"


def markdown(told: Told) -> str:
    """Return the table of the first cell, as the README has it."""
    cell, groups = judge.cells(told)[0], _groups(told)
    lines = [
        f"| learnt from S_h and | {' | '.join(groups)} | spurious / true margin |",
        "|---" * (2 + len(groups)) + "|",
    ]
    for row in judge.rows(told):
        if row["cell"] != cell or not row["figures"]["seen"]["acc1"].seeds:
            continue
        shown = []
        for group in groups:
            mean, interval = number(row["figures"][group]["acc1"], 100)
            shown.append(f"{mean} ({interval})" if interval else mean)
        wrong, true = (row["figures"]["seen"][f"{one}_margin"].mean for one in ("spurious", "true"))
        what = f"{row['arm']}: {ARMS[row['arm']]}"
        lines.append(f"| {what} | {' | '.join(shown)} | {wrong:.3f} / {true:.3f} |")
    return "\n".join(lines)


@cache
def _template() -> jinja2.Template:
    return pages(Path(__file__).parent).get_template("evidence.html.j2")
