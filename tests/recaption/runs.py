"""Runs of filter to be captioned by models so small that they take seconds, for tests."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.commands import main as pipelines
from recaption.__main__ import main

RECIPE = """
name = "tiny"
held_out_share = 0.2
vocabulary = {size = 200}
pretrain = {steps = 3, batch = 8, learning_rate = 1e-3, warmup_steps = 1}
captioner = {steps = 2, batch = 8, learning_rate = 1e-3}
filter = {steps = 2, batch = 8, learning_rate = 1e-3}
decode = {min_tokens = 1, max_tokens = 4, candidates = 2}
choose = {min_itm_inclusive = 0.0}

[model]
image_px = 16
patch_px = 8
vision_width = 16
vision_layers = 1
vision_heads = 2
text_width = 16
text_layers = 1
text_heads = 2
embed_width = 8
max_tokens = 16
"""


def prepare(home: Path) -> None:
    """Write a sample and a clean one, `raw` and `clean`, and a recipe beside them."""
    (home / "tiny.toml").write_text(RECIPE)
    for name, options in {"raw": ["--rows", "90"], "clean": ["--rows", "60", "--clean"]}.items():
        assert pipelines(["sample", "--output", str(home / name), "--seed", "5", *options]) == 0


def filter_both(place: Path) -> None:
    """Filter what `prepare` wrote, into `out` and `clean-out` beside it."""
    for name, output in {"raw": "out", "clean": "clean-out"}.items():
        paths = ["--input", str(place / name), "--output", str(place / output)]
        asked = ["--set", "images.for_recaption=true", "--workers", "1"]
        assert pipelines(["filter", *paths, *asked]) == 0


def verb(name: str, output: Path, *options: str) -> int:
    """Run a verb by the recipe that is beside an output."""
    return main(
        [name, "--from", str(output), "--recipe", str(output.parent / "tiny.toml"), *options]
    )


def captions(output: Path) -> list[dict[str, Any]]:
    """Return the rows; a captioner's digest has its path in it, and its sums their batch's size."""
    paths = sorted((output / "captions").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    for row in rows:
        for known in (row, *(row["candidates"] or ())):
            known |= {n: round(v, 4) for n, v in known.items() if isinstance(v, float)}
            known.pop("captioner", None)
    return rows
