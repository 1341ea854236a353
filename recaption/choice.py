"""Choose captions for a whole corpus, and say what that did, in numbers."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq

from filters.rule import RecipeError
from recaption.captions import add_provenance, captions_path, read_provenance, write_table
from recaption.choosing import Bounds, Choose, choose, raw_cosines, top_share
from recaption.files import write_json
from recaption.filter_run import FilterRun
from recaption.statistics import Tally

STATISTICS = "statistics.json"


def choose_all(run: FilterRun, settings: Choose) -> dict[str, Any]:
    """Choose the caption of every pair; return the statistics, which go to captions/, too.

    Raises:
        RecipeError: Some shard has no scores yet, or the rule has no threshold.
    """
    paths = [captions_path(run.output, shard.name) for shard in run.shards]
    missing = next((path for path in paths if not path.exists()), None)
    if missing:
        raise RecipeError(
            f"{missing} must be there to choose from, got nothing; run generate and score over all "
            "shards first"
        )
    provenance = read_provenance(run.output)
    needed = ["raw_itc", "kept"]
    cosines = (raw_cosines(pq.read_table(path, columns=needed)) for path in paths)
    raw_itc = top_share(cosines, settings.raw_top_share)
    bounds = Bounds(_threshold(settings, provenance), raw_itc)
    tally = Tally(bounds.itm)
    for path in paths:
        table = choose(pq.read_table(path), settings, bounds)
        write_table(path, table)
        tally.add(table)
    told = tally.told()
    choice = asdict(settings) | {"itm": bounds.itm, "raw_itc": bounds.raw_itc}
    add_provenance(run.output, {"choice": choice})
    write_json(run.output / "captions" / STATISTICS, told | {"choice": choice})
    return told | {"choice": choice}


def _threshold(settings: Choose, provenance: Mapping[str, Any]) -> float:
    if settings.min_itm_inclusive is not None:
        return settings.min_itm_inclusive
    found = provenance.get("scorer", {}).get("calibration", {}).get("threshold")
    if found is None:
        if settings.rule != "capfilt":
            return 0.5
        raise RecipeError(
            "choose.min_itm_inclusive must be set for capfilt, as the filter was not calibrated, "
            "got nothing; add it, such as 0.5, where BLIP's filter calls a caption matched"
        )
    return float(found)
