"""The command line: `python -m recaption VERB`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import RecipeError
from recaption.arguments import parser
from recaption.choice import account, choose_all
from recaption.choosing import Choose
from recaption.extra import check_installed
from recaption.filter_run import FilterRun, Shard
from recaption.opening import MODELS, captioner_of, scorer_of
from recaption.settings import Settings, read_settings
from recaption.shards import generate_shard, score_shard
from recaption.store_clients import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code: 0, or 2 where one sentence on stderr says what is wrong."""
    options = parser().parse_args(arguments)
    try:
        settings = read_settings(options.recipe, options.set)
        run = FilterRun(getattr(options, "from"))
        for verb in _RUN if options.verb == "run" else (options.verb,):
            _DO[verb](run, settings, options)
    except (RecipeError, StoreError, OSError) as error:
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
    noisy = _pairs(run, lambda rows: pc.and_not(rows["captionable"], rows["kept"]))
    if options.clean:
        noisy = _pairs(run, lambda rows: rows["captionable"])
    folder = run.output / MODELS
    report = train(
        settings,
        noisy,
        _pairs(clean, lambda rows: rows["kept"]),
        folder,
        say=_say,
        device=options.device,
    )
    _say(_calibrated(report["calibration"]))
    _say(f"models: {folder}")


def _calibrated(told: dict[str, Any]) -> str:
    """Say what the filter is worth."""
    auc = ", ".join(f"{kind} {value:.3f}" for kind, value in told["auc"].items())
    short = "" if told["reached"] else f", short of the {told['asked_precision']:.0%} asked for"
    return (
        f"filter: AUC of {told['num_positives']:,} held-out pairs against others: {auc}; matched "
        f"from {told['threshold']:.3f} on, which keeps {told['recall']:.0%} of what matches at a "
        f"precision of {told['precision']:.0%}{short}"
    )


def _generate(run: FilterRun, settings: Settings, options: argparse.Namespace) -> None:
    captioner = captioner_of(run, settings, options.captioner, options.device)
    for shard in _shards(run, options.part):
        images = generate_shard(
            run,
            shard,
            captioner,
            of_kept=settings.of_kept,
            retry_failed=options.retry_failed,
            overwrite=options.overwrite,
        )
        _say(f"{shard.name}: captions for {images:,} images")


def _score(run: FilterRun, settings: Settings, options: argparse.Namespace) -> None:
    del settings
    scorer = scorer_of(run, options.scorer, options.device)
    for shard in _shards(run, options.part):
        _say(f"{shard.name}: scores for {score_shard(run, shard, scorer):,} images")


def _choose(run: FilterRun, settings: Settings, options: argparse.Namespace) -> None:
    del options
    _say(account(choose_all(run, settings.choose)))


def _revert(run: FilterRun, settings: Settings, options: argparse.Namespace) -> None:
    _choose(run, replace(settings, choose=Choose(rule="raw")), options)


def _pairs(run: FilterRun, where: Callable[[pa.Table], Any]) -> Iterator[tuple[str, bytes, str]]:
    """Yield the key, the image and the caption of some rows that have a caption."""
    for shard in run.shards:
        rows = run.rows(shard)
        chosen = pc.and_(where(rows), pc.is_valid(rows["caption"]))
        at = np.flatnonzero(pc.fill_null(chosen, False).to_numpy())
        some = rows.take(pa.array(at))
        keys, captions = some["key"].to_pylist(), some["caption"].to_pylist()
        for key, image, text in zip(keys, run.images(shard, rows, at), captions, strict=True):
            yield f"{shard.name}/{key}", image, text


def _shards(run: FilterRun, part: tuple[int, int]) -> list[Shard]:
    """Return the shards of a part of the work: by the order of names, which all machines share."""
    first, parts = part
    return run.shards[first::parts]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


_DO: dict[str, Callable[[FilterRun, Settings, argparse.Namespace], None]] = {
    "train": _train,
    "generate": _generate,
    "score": _score,
    "choose": _choose,
    "revert": _revert,
}
_RUN = ("train", "generate", "score", "choose")

if __name__ == "__main__":
    sys.exit(main())
