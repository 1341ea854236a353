"""The command line: `python -m recaption VERB`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from filters.rule import RecipeError
from recaption.arguments import parser
from recaption.captions import add_provenance
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.extra import check_installed
from recaption.filter_run import FilterRun, Shard
from recaption.settings import Settings, read_settings
from recaption.shards import digest_of, generate_shard, score_shard

MODELS = "recaption"
"""The folder of an output that `train` writes to."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code: 0, or 2 where one sentence on stderr says what is wrong."""
    options = parser().parse_args(arguments)
    try:
        settings = read_settings(options.recipe, options.set)
        run = FilterRun(getattr(options, "from"))
        for verb in _VERBS["run"] if options.verb == "run" else [options.verb]:
            _DO[verb](run, settings, options)
    except (RecipeError, OSError) as error:
        sys.stderr.write(f"altmill: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("altmill: stopped; the same command goes on from here\n")
        return 130
    return 0


def _train(run: FilterRun, settings: Settings, options: argparse.Namespace) -> None:
    check_installed("recaption train")
    from recaption.training import train

    clean = FilterRun(options.clean) if options.clean else run
    report = train(
        settings,
        _pairs(run, "captionable", others_than=run if clean is run else None),
        _pairs(clean, "kept"),
        run.output / MODELS,
        say=_say,
        device=options.device,
    )
    told = report["calibration"]
    _say(f"models in {run.output / MODELS}; the filter: {told}")
