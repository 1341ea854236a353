"""Gather what the commands of an experiment left, and judge it: `evidence.json`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.classes import GROUPS
from pipelines.manifest import code_version, environment, version_of
from pipelines.truth import compare
from recaption.files import read_json
from recaption.filter_run import FilterRun
from train.experiments.evidence.grid import Grid
from train.experiments.evidence.noise import told_by_words
from train.experiments.evidence.plan import CHOICES, QUARTERS, Place, arms_of, places
from train.folder import EVALUATION
from train.metrics import read_metrics

Row = dict[str, Any]

CURVE_POINTS = 60
"""Of a loss curve at most."""


def gather(grid: Grid, out: Path) -> dict[str, Any]:
    """Return, in plain values, all that the experiment's page tells.

    Returns:
        `runs`, a row for each model: its cell, seed, arm and ablation, its steps and pairs, and its
        metrics by group; `captions`, a row for each captioner; `curves` of the first seed.
    """
    every = places(grid, out)
    return {
        "grid": asdict(grid),
        "runs": [_run(place, arm) for place in every for arm in arms_of(place)],
        "captions": [
            _captions(place)
            for place in every
            if (place.variant is None or place.variant.recaption) and _captioned(place)
        ],
        "curves": [_curve(every[0], arm) for arm in arms_of(every[0])],
        "environment": environment() | {"torch": version_of("torch")},
        "altmill": code_version(),
    }


def _where(place: Place) -> Row:
    cell = place.cell
    variant = place.variant
    return {
        "cell": cell.name,
        "title": cell.title,
        "partner": cell.partner,
        "other_image": cell.other_image,
        "clean": cell.clean,
        "seed": place.seed,
        "variant": variant.name if variant else None,
        "factor": variant.factor if variant else None,
    }


def _run(place: Place, arm: str) -> Row:
    folder = place.run(arm)
    story = read_json(folder / "run.json")
    steps = [line["step"] for line in read_metrics(folder) if "loss" in line]
    metrics = _metrics(folder / EVALUATION, place.test.name)
    return {
        **_where(place),
        "arm": arm,
        "folder": str(folder),
        "steps": max(steps, default=0),
        "batch": story["settings"]["batch"],
        "pairs": story["data"]["pairs"],
        "vocabulary": story["vocabulary"]["sha256"],
        "model": story["settings"]["model"],
        "metrics": metrics,
    }


def _metrics(folder: Path, test: str) -> dict[str, dict[str, float | None]]:
    """Return what `evaluate` found, by group."""
    paths = {group: folder / f"{test}-{group}_planted.json" for group in GROUPS}
    return {group: read_json(path)["metrics"] for group, path in paths.items() if path.exists()}


def _captioned(place: Place) -> bool:
    return any(arm in (*CHOICES, "itm", "capfilt") for arm in arms_of(place))


def _captions(place: Place) -> Row:
    """Return how a cell's captions fare, by the truth that its corpus has planted."""
    folder = place.captions("capfilt")
    told = compare(FilterRun(folder)) or {"kinds": [], "precision": {}, "auc": {}}
    statistics = read_json(folder / "captions" / "statistics.json")
    calibration = read_json(folder / "recaption" / "filter" / "calibration.json")
    asked = {kind["noise"]: kind["asked"] for kind in told["kinds"]}
    return {
        **_where(place),
        "precision": told["precision"],
        "auc": {**told["auc"], "noisy": _mean_auc(told["auc"], asked)},
        "asked": asked,
        "shares": place.cell.shares,
        "noise": told_by_words(folder),
        "raw_acceptance": statistics["raw_acceptance"],
        "synthetic_acceptance": statistics["synthetic_acceptance"],
        "unique": {name: one["unique"] for name, one in statistics["texts"].items()},
        "written": {name: one["captions"] for name, one in statistics["texts"].items()},
        "kept": statistics["kept"],
        "threshold": calibration["threshold"],
    }


def _mean_auc(auc: Mapping[str, float | None], asked: Mapping[str, int]) -> float | None:
    """Return the AUC of clean captions against all others: each kind counts by its pairs."""
    known = {kind: value for kind, value in auc.items() if value is not None}
    pairs = sum(asked[kind] for kind in known)
    return sum(asked[kind] * value for kind, value in known.items()) / pairs if pairs else None


def _curve(place: Place, arm: str) -> Row:
    """Return an arm's loss by step, and its accuracy at quarters of its steps."""
    folder = place.run(arm)
    told = [line for line in read_metrics(folder) if "loss" in line]
    each = max(1, -(-len(told) // CURVE_POINTS))
    losses = [
        {"step": some[-1]["step"], "loss": sum(line["loss"] for line in some) / len(some)}
        for some in (told[at : at + each] for at in range(0, len(told), each))
    ]
    last = told[-1]["step"] if told else 0
    at = {quarter * max(1, last // 4): None for quarter in QUARTERS}
    tested = {step: _metrics(folder / f"at-{step}", place.test.name) for step in at}
    tested[last] = _metrics(folder / EVALUATION, place.test.name)
    return {
        "arm": arm,
        "loss": losses,
        "accuracy": [
            {"step": step, **{group: one[group]["acc1"] for group in one}}
            for step, one in tested.items()
            if one
        ],
    }
