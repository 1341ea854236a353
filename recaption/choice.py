"""Choose captions for a whole corpus, and say what that did, in numbers."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.rule import RecipeError
from recaption.captions import (
    DECIDED_BY,
    add_provenance,
    captions_path,
    read_provenance,
    with_note,
    write_table,
)
from recaption.choosing import Bounds, Choose, choose, raw_cosines, top_share
from recaption.files import write_json
from recaption.filter_run import FilterRun, Shard
from recaption.statistics import Tally

STATISTICS = "statistics.json"


def choose_all(run: FilterRun, settings: Choose) -> dict[str, Any]:
    """Choose the caption of every pair; return the statistics, which go to captions/, too.

    Raises:
        RecipeError: Some shard has no scores yet, or the rule has no threshold.
    """
    paths = {shard: captions_path(run.output, shard.name) for shard in run.shards}
    missing = next((path for path in paths.values() if not path.exists()), None)
    if missing:
        raise RecipeError(
            f"{missing} must be there to choose from, got nothing; run generate and score over all "
            "shards first"
        )
    cosines = (raw_cosines(_decided(run, shard, path)) for shard, path in paths.items())
    raw_itc = top_share(cosines, settings.raw_top_share)
    bounds = Bounds(_threshold(settings, read_provenance(run.output)), raw_itc)
    tally = Tally(bounds.itm)
    for shard, path in paths.items():
        table = choose(_decided(run, shard, path), settings, bounds)
        write_table(path, with_note(table, DECIDED_BY, run.manifest["recipe_digest"]))
        tally.add(table)
    told = tally.told()
    choice = asdict(settings) | {"itm": bounds.itm, "raw_itc": bounds.raw_itc}
    add_provenance(run.output, {"choice": choice})
    write_json(run.output / "captions" / STATISTICS, told | {"choice": choice})
    return told | {"choice": choice}


def _decided(run: FilterRun, shard: Shard, path: Path) -> pa.Table:
    """Read a shard's captions, by what the filter run decides now: it may have decided anew."""
    table, rows = pq.read_table(path), run.rows(shard)
    asked = pc.and_(table["asked"], rows["captionable"])
    for name, column in (("kept", rows["kept"]), ("asked", asked)):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _threshold(settings: Choose, provenance: Mapping[str, Any]) -> float:
    if settings.min_itm_inclusive is not None:
        return settings.min_itm_inclusive
    calibration = provenance.get("scorer", {}).get("calibration") or {}
    found = calibration.get("threshold")
    if found is None:
        if settings.rule != "capfilt":
            return 0.5
        raise RecipeError(
            "choose.min_itm_inclusive must be set for capfilt, as the filter was not calibrated, "
            "got nothing; add it, such as 0.5, where BLIP's filter calls a caption matched"
        )
    return float(found)


def account(told: Mapping[str, Any]) -> str:
    """Say what a choice did."""
    lines = [
        f"{told['kept_before']:>12,}  kept by the filter run",
        f"{-told['lost']:>12,}  whose caption does not match, nor any synthetic one",
        f"{told['rescued']:>12,}  dropped for their caption, and back with a synthetic one",
        f"{told['kept']:>12,}  kept",
        f"{told['replaced'] + told['rescued']:>12,}  of them with a synthetic caption",
        "",
        f"matched by the filter: {_percent(told['raw_acceptance'])} of the raw captions, "
        f"{_percent(told['synthetic_acceptance'])} of the synthetic ones",
    ]
    failures = ", ".join(f"{kind} {count:,}" for kind, count in told["failures"].items())
    return "\n".join(lines + [f"failed: {failures}"] * bool(failures))


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
