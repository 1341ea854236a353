"""Options that several jobs have on the command line."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recaption.command_line import place


def add_recipe(job: argparse.ArgumentParser) -> None:
    """Add what says by which rules, and what they need."""
    job.add_argument(
        "--recipe",
        default="align",
        metavar="NAME",
        help="align, conceptual-captions, coyo, datacomp-basic, laion, a TOML file, or a run's "
        "manifest.json (default: %(default)s)",
    )
    job.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, such as rules.token_count.max_inclusive=30; may be repeated",
    )
    add_workers(job)


def add_wishes(job: argparse.ArgumentParser) -> Any:
    """Add what to do with what is in the output; return the group, of which one may be said."""
    wishes = job.add_mutually_exclusive_group()
    wishes.add_argument(
        "--overwrite", action="store_true", help="replace what another run left in the output"
    )
    wishes.add_argument(
        "--resume",
        action="store_true",
        help="only go on with an unfinished run, which the same command does by itself, and begin "
        "none",
    )
    return wishes


def add_workers(job: argparse.ArgumentParser) -> None:
    """Add the number of processes."""
    job.add_argument(
        "--workers",
        type=positive,
        default=_cores(),
        metavar="N",
        help="local processes (default: one per core, %(default)s)",
    )


def names_runner(beam: Sequence[str]) -> bool:
    """Say whether Beam's options name a runner, whose workers need not be processes of ours."""
    return any(option.startswith("--runner") for option in beam)


def make_absolute(options: argparse.Namespace) -> None:
    """Say paths in full, for workers are in other folders."""
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, value.absolute())


def positive(text: str) -> int:
    """Read a number from 1 on."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, got {text!r}")
    return int(text)


def whole(text: str) -> int:
    """Read a number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, got {text!r}")
    return int(text)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def add_from(job: argparse.ArgumentParser, read: Callable[[str], Path] = place) -> None:
    """Add the run that a job is about; `read` says where it may be."""
    job.add_argument(
        "--from", required=True, type=read, metavar="DIR", help="the output of a filter run"
    )
