"""Show the simulation on one page: the paper's figure beside ours, and what the controls say."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from pipelines.page import pages
from recaption.files import read_json, write_text
from train.experiments.simulation import figures
from train.experiments.simulation.matching import COLUMNS, NAMES, TOLERANCES, matches, pick
from train.experiments.simulation.reading import figure, reading
from train.experiments.simulation.stopping import stops
from train.experiments.simulation.summary import MAIN
from train.experiments.simulation.trial import FILTERED, RAW
from train.folder import REPORT

Row = dict[str, Any]


def write_report(out: Path) -> list[str]:
    """Write `report/index.html` of a simulation; return its reading, and the path."""
    told = read_json(out / "simulation.json")
    said = reading(told)
    shares = told["setting"]["spurious"]
    page = _template().render(
        told=told,
        reading=said,
        heads=_heads(told, shares[-1]),
        curves=figures.curves(told),
        steps=figures.steps(told),
        controls=figures.controls(told),
        neurons=figures.neurons(told),
        maps=figures.maps(told),
        matches=matches(told),
        names=NAMES,
        columns=COLUMNS,
        tolerances=TOLERANCES,
        figure=figure,
        points=_points(told),
        choices=_choices(told),
        stops=stops(told),
        captions=_captions(told),
        most=max(row["spurious"] for row in told["parts"]),
        settings=json.dumps(told["setting"], indent=1),
    )
    path = out / REPORT / "index.html"
    write_text(path, page)
    return [*(f"{subject}. {text}" for subject, text in said.items()), f"report: {path}"]


def _heads(told: Row, share: float) -> list[tuple[str, str, str]]:
    """Return the figures at the top: what, of raw texts, of rewritten ones."""
    heads = []
    for measure, column in COLUMNS.items():
        raw, after = (
            pick(told["arms"], variant=MAIN, arm=arm, spurious=share, measure=column)["mean"]
            for arm in (RAW, FILTERED)
        )
        heads.append((NAMES[measure].capitalize(), figure(measure, raw), figure(measure, after)))
    return heads


def _points(told: Row) -> list[Row]:
    """Return a line of the table of all points: a share, and each measure of each arm."""
    return [
        {
            "spurious": share,
            "cells": [
                pick(told["arms"], variant=MAIN, arm=arm, spurious=share, measure=column)
                for column in COLUMNS.values()
                for arm in (RAW, FILTERED)
            ],
        }
        for share in told["setting"]["spurious"]
    ]


def _choices(told: Row) -> list[Row]:
    """Return a line of the table of open choices: a variant, and its gains by share."""
    shares = sorted({row["spurious"] for row in told["parts"]})
    columns = COLUMNS | {
        "accuracy, lead of 2": "accuracy_lead_2",
        "accuracy, class alone": "accuracy_alone",
    }
    lines = []
    for name in dict.fromkeys([MAIN, *(row["variant"] for row in told["gains"])]):
        for share in shares:
            key = {"variant": name, "arm": FILTERED, "spurious": share}
            gains = {
                measure: pick(told["gains"], measure=column, **key)
                for measure, column in columns.items()
            }
            trials = gains["purified"]["trials"]
            lines.append({"variant": name, "spurious": share, "trials": trials, "gains": gains})
    return lines


def _captions(told: Row) -> list[Row]:
    """Return a line of the table of captions: a share, and the mean of each measure."""
    rows = [row for row in told["captions"] if row["variant"] == MAIN]
    return [
        {"spurious": share}
        | {row["measure"]: row["mean"] for row in rows if row["spurious"] == share}
        for share in told["setting"]["spurious"]
    ]


@cache
def _template() -> jinja2.Template:
    return pages(Path(__file__).parent).get_template("page.html.j2")
