"""Run an experiment from its grid to its page."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filters.rule import RecipeError
from recaption.files import read_json, write_json, write_text
from train.experiments.evidence.execute import execute, typed
from train.experiments.evidence.gather import gather
from train.experiments.evidence.grid import Grid
from train.experiments.evidence.judge import checks, reading
from train.experiments.evidence.maps import lay_out
from train.experiments.evidence.page import markdown, write_page
from train.experiments.evidence.plan import MAPPED, arms_of, maps_of, places, plan

GRID, EVIDENCE, COMMANDS, TABLE = "grid.json", "evidence.json", "commands.sh", "table.md"


def run(grid: Grid, out: Path, workers: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run what has not been run, gather everything, and write the page.

    Args:
        grid: What to do.
        out: Where to; a killed experiment of the same grid goes on there.
        workers: Commands at once; 0: one per core.
        say: Takes lines of progress.

    Returns:
        What `evidence.json` holds.

    Raises:
        RecipeError: A command failed, or `out` holds another experiment.
    """
    recipes = [Path(grid.recipe(job)) for job in ("filter", "recaption", "train")]
    texts = [path.read_text(encoding="utf-8") for path in recipes if path.is_file()]
    plain = asdict(grid) | {"recipes": texts}
    _refuse_other(out / GRID, plain)
    commands = plan(grid, out)
    write_json(out / GRID, plain)
    write_text(out / COMMANDS, "".join(f"{typed(command)}\n" for command in commands))
    execute(commands, out, workers or len(os.sched_getaffinity(0)), say)
    told = gather(grid, out)
    first = places(grid, out)[0]
    told["maps"] = {
        arm: lay_out(maps_of(first, arm), first.test) for arm in MAPPED if arm in arms_of(first)
    }
    told["checks"] = checks(told)
    told["reading"] = reading(told)
    write_json(out / EVIDENCE, told)
    write_text(out / TABLE, markdown(told) + "\n")
    say(markdown(told))
    for sentence in told["reading"]:
        say(sentence)
    for check in told["checks"]:
        say(f"{'passed' if check['passed'] else 'FAILED'}: {check['name']}: {check['found']}")
    say(f"report: {write_page(told, out)}")
    return told


def _refuse_other(path: Path, plain: dict[str, Any]) -> None:
    if path.exists() and read_json(path) != json.loads(json.dumps(plain)):
        raise RecipeError(
            f"{path.parent} must be new or hold an experiment of the same grid and recipes, got "
            "another; name another --out"
        )
