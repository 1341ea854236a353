"""Show what recaptioning did on one page: before and after, scores, who was replaced, by whom."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow.parquet as pq

from filters.rule import RecipeError
from pipelines.page import pages, share
from pipelines.pictures import thumbnail
from pipelines.truth import compare
from recaption.captions import captions_path, read_provenance
from recaption.choice import STATISTICS
from recaption.files import read_json, write_text
from recaption.filter_run import FilterRun, Shard

FATES = {
    "rescued": "dropped for its caption, back with a synthetic one",
    "replaced": "kept by the filter run, now with a synthetic caption",
    "stays": "kept with its own caption",
    "lost": "kept by the filter run, and now gone: neither caption matches",
    "dropped": "dropped for its caption, and the synthetic one does not match either",
    "failed": "no caption could be written",
}
"""What may become of a pair that a caption was asked for."""

_SHOWN = 12
_MAX_PIXELS = 178_956_970


def write_captions_page(output: Path) -> Path:
    """Write `report/captions.html` of a run whose captions were chosen, and return its path.

    Raises:
        RecipeError: There is no run, or no captions were chosen.
    """
    run = FilterRun(output)
    told, makers = _statistics(output), read_provenance(output)
    page = _page().render(
        run=run.manifest,
        output=str(output),
        told=told,
        truth=compare(run),
        fates=FATES,
        examples=_examples(run),
        captioners={
            name: json.dumps(spec, indent=1) for name, spec in makers["captioners"].items()
        },
        scorer=json.dumps(makers.get("scorer"), indent=1),
    )
    path = output / "report" / "captions.html"
    write_text(path, page)
    return path


def _statistics(output: Path) -> dict[str, Any]:
    path = output / "captions" / STATISTICS
    if not path.exists():
        raise RecipeError(
            f"{output} must have captions that were chosen, got no {path.name}; run python -m "
            "recaption choose"
        )
    stated: dict[str, Any] = read_json(path)
    return stated


def _examples(run: FilterRun) -> dict[str, list[dict[str, Any]]]:
    """Return some pairs of each fate with their pictures, those of the smallest digests."""
    best: dict[str, list[tuple[str, Shard, int, dict[str, Any]]]] = defaultdict(list)
    for shard in run.shards:
        for fate, chance, at, row in _fates(run, shard):
            some = [*best[fate], (chance, shard, at, row)]
            best[fate] = sorted(some, key=lambda one: one[0])[:_SHOWN]
    return {
        fate: [_card(run, shard, at, row) for _, shard, at, row in best[fate]]
        for fate in FATES
        if best[fate]
    }


def _fates(run: FilterRun, shard: Shard) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    rows = pq.read_table(captions_path(run.output, shard.name)).to_pylist()
    for at, row in enumerate(rows):
        if row["asked"]:
            place = f"{shard.name} {row['key']} {row['uid']}"
            yield _fate(row), hashlib.sha256(place.encode()).hexdigest(), at, row


def _fate(row: dict[str, Any]) -> str:
    if row["candidates"] and all(one["failure"] for one in row["candidates"]):
        return "failed"
    if row["kept"]:
        return {"raw": "stays", "synthetic": "replaced", None: "lost"}[row["origin"]]
    return "rescued" if row["origin"] else "dropped"


def _card(run: FilterRun, shard: Shard, at: int, row: dict[str, Any]) -> dict[str, Any]:
    places = np.array([at])
    image = next(run.images(shard, run.rows(shard), places), None)
    winner = None if row["winner"] is None else row["candidates"][row["winner"]]
    return {
        "picture": image and thumbnail(image, _MAX_PIXELS),
        "raw": row["raw"],
        "raw_itm": row["raw_itm"],
        "synthetic": winner and winner["text"],
        "synthetic_itm": winner and winner["itm"],
        "failures": sorted({c["failure"] for c in row["candidates"] or () if c["failure"]}),
        "origin": row["origin"],
        "place": f"{row['key']} in {shard.name}",
    }


def _percent(part: float | None) -> str:
    return share(0 if part is None else part, 0 if part is None else 1)


@cache
def _page() -> jinja2.Template:
    environment = pages()
    environment.filters |= {"percent": _percent}
    return environment.get_template("captions.html.j2")
