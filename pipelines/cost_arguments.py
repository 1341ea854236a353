"""The command line of the job `plan`, and the corpus that it describes."""

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from filters.recipe import Recipe
from filters.rule import RecipeError
from filters.text import normalise, tokenise
from pipelines import ngrams
from pipelines.cost import left_out, read_constants
from pipelines.cost_report import Estimate, as_json, as_text
from pipelines.images import read_header
from pipelines.inputs import find_shards
from pipelines.options import add_recipe
from pipelines.plan import count_partitions, read_recipe
from pipelines.rows import Rows, read_rows
from pipelines.volumes import Corpus, fit_heaps, measure_volumes
from recaption.command_line import place

_TOKENS = 11.0
"""Of LAION-400M's captions, on average; see tests/bench/corpus.py."""
_SHARD_ROWS = 10_000
"""As img2dataset's."""
_SAMPLE_ROWS = 200_000
_SAMPLE_IMAGES = 1_000
_ANY_PIXELS = 2**40
_POINTS = 4
"""Sizes at which the distinct n-grams of a sample are counted, each half of the next."""


def add_cost(jobs: Any) -> None:
    """Add `plan`."""
    job = jobs.add_parser("plan", help="predict what filtering a corpus of any size costs")
    job.description = (
        "Predict CPU hours, bytes through the exchange, memory and disk of a filter run, stage by "
        "stage, from constants that `python -m tests.bench cost` measured. Where they were "
        "measured, that came within 20 % of a run ten times as large as any of theirs."
    )
    job.add_argument("--rows", required=True, type=_number, metavar="N", help="such as 1.8e9")
    job.add_argument(
        "--sample", metavar="PATH", help="some shards of the corpus, to take what follows from"
    )
    for name, what in (
        ("words", f"a caption, on average (default: {_TOKENS:g})"),
        ("shard-rows", f"a shard (default: {_SHARD_ROWS:,})"),
        ("image-kb", "an image, on average (default: metadata alone)"),
        ("megapixels", "an image, on average"),
    ):
        job.add_argument(f"--{name}", type=_number, metavar="N", help=f"of {what}")
    for name, what in (
        ("decoded", "of images whose rows the cheap rules keep"),
        ("kept", "of rows"),
    ):
        job.add_argument(
            f"--{name}", type=_share, default=1.0, metavar="SHARE", help=f"{what} (default: all)"
        )
    add_recipe(job)
    for name, default, what in (
        ("memory-gib", 4.0, "of a worker, to be warned"),
        ("disk-gib", 0.0, "of the output, to be warned"),
    ):
        job.add_argument(f"--{name}", type=_number, default=default, metavar="N", help=what)
    job.add_argument(
        "--constants", type=place, metavar="FILE", help="measured on your machine (default: ours)"
    )
    job.add_argument("--json", action="store_true", help="print JSON")


def predict(options: argparse.Namespace) -> str:
    """Return what the command line asks for: a table, or JSON.

    Raises:
        RecipeError: The recipe or the constants are wrong.
        InputError: The sample cannot be read.
    """
    estimate = _estimate(options)
    return json.dumps(as_json(estimate), indent=1) if options.json else as_text(estimate)


def _estimate(options: argparse.Namespace) -> Estimate:
    recipe, constants = (
        read_recipe(options.recipe, options.set),
        read_constants(options.constants),
    )
    told: dict[str, Any] = {"tokens": _TOKENS, "heaps": constants.heaps, "shard_rows": _SHARD_ROWS}
    if options.sample:
        told |= measure_sample(options.sample, recipe)
    names = {"words": "tokens", "shard_rows": "shard_rows", "megapixels": "megapixels"}
    chosen = {ours: getattr(options, name) for name, ours in names.items()}
    told |= {name: value for name, value in chosen.items() if value is not None}
    if options.image_kb is not None:
        told["image_bytes"] = options.image_kb * 1000
    corpus = Corpus(rows=options.rows, decoded=options.decoded, kept=options.kept, **told)
    if corpus.image_bytes and not corpus.megapixels:
        raise RecipeError(
            "--megapixels must be given with --image-kb, got none; 640x480 is 0.31, and --sample "
            "measures both"
        )
    volumes = measure_volumes(corpus, recipe, count_partitions(int(corpus.rows)))
    return Estimate(
        corpus=corpus,
        volumes=volumes,
        costs=constants.predict(volumes),
        constants=constants,
        workers=options.workers,
        memory_gib=options.memory_gib,
        disk_gib=options.disk_gib,
        left_out=left_out(recipe),
    )


def measure_sample(source: str, recipe: Recipe) -> dict[str, Any]:
    """Measure what there is to know of a corpus from some of its shards.

    Returns:
        Fields of `Corpus`.

    Raises:
        InputError: They cannot be read.
    """
    _, shards = find_shards(source, recipe.columns, Path(source) / "_none")
    captions, images = pa.chunked_array([], pa.string()), list[tuple[int, int]]()
    for shard in shards:
        for rows in read_rows(shard, []):
            captions = pa.chunked_array([*captions.chunks, rows.batch["caption"]])
            images += _look(rows, _SAMPLE_IMAGES - len(images))
            if len(captions) >= _SAMPLE_ROWS:
                break
    points = [
        _count(captions[: len(captions) >> halvings], recipe.tables.hash_seed)
        for halvings in range(_POINTS)
    ]
    occurrences, distinct = np.array(points).T
    if not distinct.all():
        raise RecipeError(
            f"--sample {source} must have captions to count, got {distinct[0]:,} distinct n-grams "
            f"in {len(captions):,} rows; name more shards"
        )
    sizes = [shard.rows for shard in shards if shard.rows]
    told = {
        "tokens": (occurrences[0] / len(captions) + 1) / 2,
        "heaps": fit_heaps(occurrences, distinct),
        "shard_rows": float(np.mean(sizes)) if sizes else len(captions) / len(shards),
    }
    if images:
        size, pixels = np.mean(images, axis=0)
        told |= {"image_bytes": float(size), "megapixels": float(pixels) / 1e6}
    return told


def _look(rows: Rows, most: int) -> list[tuple[int, int]]:
    """Return the bytes and the pixels of some images."""
    seen = []
    for image in itertools.islice(rows.images, max(0, most)):
        header = read_header(image, _ANY_PIXELS) if image else None
        if header and header.width and header.height:
            seen.append((len(image or b""), header.width * header.height))
    return seen


def _count(captions: pa.ChunkedArray, seed: int) -> tuple[int, int]:
    """Return how many n-grams captions have, and how many of them are distinct."""
    tokens = tokenise(normalise(captions.combine_chunks()))
    counts = ngrams.count(ngrams.vocabulary(tokens, seed))["count"].to_numpy()
    return int(counts.sum()), len(counts)


def _number(text: str) -> float:
    try:
        value = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be a share of at most 1, got {text!r}")
    return value
