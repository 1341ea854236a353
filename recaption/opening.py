"""Open the captioner and the scorer of a run, and put them on record."""

from typing import Any

from recaption.captioner import Captioner, Scorer, open_captioner, open_scorer
from recaption.captions import add_provenance
from recaption.files import read_json
from recaption.filter_run import FilterRun
from recaption.settings import Settings
from recaption.shards import digest_of
from recaption.stores import to_path

MODELS = "recaption"
"""The folder of an output that models are trained in."""


def captioner_of(run: FilterRun, settings: Settings, name: str, device: str) -> Captioner:
    """Open a captioner by its name, or the one that was trained on the run where there is none.

    Raises:
        RecipeError: It cannot be opened.
    """
    captioner = open_captioner(
        name or f"blip:{run.output / MODELS / 'captioner'}",
        settings.decode,
        bounds=settings.captions,
        server=settings.server,
        device=device,
    )
    add_provenance(run.output, {"captioners": {digest_of(captioner.spec): captioner.spec}})
    return captioner


def scorer_of(run: FilterRun, name: str, device: str) -> Scorer:
    """Open a scorer by its name, or the one that was trained on the run where there is none.

    Raises:
        RecipeError: It cannot be opened.
    """
    name = name or f"blip:{run.output / MODELS / 'filter'}"
    scorer = open_scorer(name, device=device)
    add_provenance(run.output, {"scorer": {**scorer.spec, "calibration": _calibration(name)}})
    return scorer


def _calibration(name: str) -> Any:
    """Return what a filter that was trained here is calibrated to."""
    path = to_path(name.partition(":")[2]) / "calibration.json"
    return read_json(path) if path.is_file() else None
