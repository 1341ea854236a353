"""The command line: `python -m train VERB`."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from filters.rule import RecipeError
from recaption.store_clients import StoreError
from train.arguments import parser

_NEEDED = ("safetensors", "tensorboard", "tokenizers", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code: 0, or 2 where one sentence on stderr says what is wrong."""
    options = parser().parse_args(arguments)
    try:
        _check_installed()
        _DO[options.verb](options)
    except (RecipeError, StoreError, OSError) as error:
        sys.stderr.write(f"altmill: {error}\n")
        return 2
    except KeyboardInterrupt:
        rest = "; the same command goes on from the last checkpoint"
        sys.stderr.write(f"altmill: stopped{rest if options.verb == 'run' else ''}\n")
        return 130
    return 0


def _check_installed() -> None:
    missing = [name for name in _NEEDED if not importlib.util.find_spec(name)]
    if missing:
        raise RecipeError(
            f"training must have {', '.join(_NEEDED)} to run, got no {' and no '.join(missing)}; "
            'pip install "altmill[train]"'
        )


def _run(options: argparse.Namespace) -> None:
    from train.run import run
    from train.settings import read_settings

    settings = read_settings(options.recipe, options.set)
    out: Path = options.out
    run(settings, options.data, out, device=options.device, overwrite=options.overwrite)


def _evaluate(options: argparse.Namespace) -> None:
    from train.evaluation.tasks import evaluate
    from train.folder import EVALUATION
    from train.opening import open_run
    from train.page import write_report

    encoder = open_run(options.run, options.checkpoint, options.device)
    for result in evaluate(encoder, options.on, options.out or options.run / EVALUATION):
        figures = ", ".join(f"{name} {value:.3f}" for name, value in result.metrics.items())
        _say(f"{result.dataset}: {figures}")
    _say(f"report: {write_report(options.run)}")


def _embed(options: argparse.Namespace) -> None:
    from train.embed import embed
    from train.opening import open_run

    opened = open_run(options.run, options.checkpoint, options.device)
    counts = embed(opened, options.data, options.out)
    told = ", ".join(f"{value:,} {name}" for name, value in counts.items() if value)
    _say(f"{options.out}: {told}")


def _search(options: argparse.Namespace) -> None:
    from train.evaluation.embeddings import open_index
    from train.evaluation.search import make_query, search
    from train.opening import open_run

    index = open_index(options.index)
    query = make_query(
        open_run(options.run, options.checkpoint, options.device),
        images=[image.read_bytes() for image in options.image],
        texts=options.text,
        without=options.without_text,
    )
    for hit in search(index, query, options.top):
        _say(f"{hit.cosine:.3f}  {hit.about['image_path']}  {hit.about['caption']}")


def _export(options: argparse.Namespace) -> None:
    from train.export import export
    from train.opening import open_run

    for line in export(open_run(options.run, options.checkpoint, "cpu"), options.out):
        _say(line)


def _evidence(options: argparse.Namespace) -> None:
    from train.experiments.evidence.grid import read_grid
    from train.experiments.evidence.run import run

    changes = [f"images={json.dumps(options.images)}"] if options.images else []
    name = options.grid or ("images" if options.images else "default")
    run(read_grid(name, [*changes, *options.set]), options.out, options.workers, _say)


def _simulate(options: argparse.Namespace) -> None:
    from train.experiments.simulation.page import write_report
    from train.experiments.simulation.run import simulate
    from train.experiments.simulation.setting import read_setting

    setting = read_setting(options.set)
    out: Path = options.out
    simulate(setting, out, trials=options.trials, seed=options.seed, device=options.device)
    for line in write_report(out):
        _say(line)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


_DO: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "evaluate": _evaluate,
    "embed": _embed,
    "search": _search,
    "export": _export,
    "evidence": _evidence,
    "simulate": _simulate,
}

if __name__ == "__main__":
    sys.exit(main())
