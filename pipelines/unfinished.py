"""Go on with an unfinished run, or make way for another; an output folder holds one."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.crawl import ExtractPlan
from pipelines.inputs import InputError
from pipelines.plan import Plan
from pipelines.unchanged import changed
from recaption.files import read_json, remove, sweep, write_json
from recaption.manifest import NAME, ManifestError

STATE = "run.json"
"""What a complete run is known by."""
_NAMED = 3
"""Shards, of those that changed."""

_log = logging.getLogger("altmill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to do with what is in the output; by default an unfinished run of the same goes on."""

    overwrite: bool = False
    """Replace another run."""
    resume: bool = False
    """Begin nothing: refuse where there is no run to go on with."""
    retry_failed: bool = False
    """Go on although files have changed: read those again."""


ANY = Wish()


def is_complete(plan: Plan | ExtractPlan) -> bool:
    """Say whether the output has the results of this very run."""
    state = plan.run.home / STATE
    complete = (
        (plan.run.home / NAME).is_file()
        and state.is_file()
        and read_json(state).get("plan") == plan.digest
    )
    if complete:
        _log.info("%s is complete already: same recipe, input and code", plan.run.home)
    return complete


def prepare(plan: Plan | ExtractPlan, names: Iterable[str], wish: Wish) -> None:
    """Make way for a run that leaves files of these names, or let it go on where it stopped.

    Raises:
        InputError: It could go on, but files of its input have changed.
        ManifestError: There is another run in the output, or none to go on with.
    """
    begun = plan.run.work / "plan.json"
    stored = read_json(begun) if begun.is_file() else {}
    before = stored if isinstance(stored, dict) else {}  # an older altmill left a text
    if wish.retry_failed and before.get("plan") != plan.digest:
        _read_changed_again(plan, before)
        before = plan.begun
        write_json(begun, before)
    if before == plan.begun:
        _log.info("going on with the unfinished run in %s", plan.run.home)
        sweep(plan.run.home, plan.run.work)
        return
    left = [path for name in (*names, STATE) for path in plan.run.home.glob(name)]
    left = [path for path in (*left, begun) if path.exists()]
    if not wish.overwrite:
        _refuse(plan, before, left)
    if wish.resume:
        raise ManifestError(
            f"--resume must find an unfinished run in {plan.run.home}, got none; leave it out to "
            "begin one"
        )
    for path in (*left, plan.run.work):
        remove(path)
    write_json(begun, plan.begun)


def _changed(plan: Plan | ExtractPlan, before: dict[str, Any]) -> list[str]:
    """Return the names of shards that changed since the run began; none of another run."""
    if isinstance(plan, Plan) and before.get("but_for_files") == plan.begun["but_for_files"]:
        return changed(before["shards"], plan.shards)
    return []


def _refuse(plan: Plan | ExtractPlan, before: dict[str, Any], left: list[Path]) -> None:
    """Refuse to replace what is there."""
    names = _changed(plan, before)
    if names:
        told = ", ".join(names[:_NAMED]) + f" and {len(names) - _NAMED:,} more" * (
            len(names) > _NAMED
        )
        raise InputError(
            f"input {plan.run.source} must be as it was when the run in {plan.run.home} began, got "
            f"other files of shard {told}; add --retry-failed to read those again, or --overwrite"
        )
    if left:
        raise ManifestError(
            f"output {plan.run.home} must be empty or hold the same run, got {left[0].name} of a "
            "run with another recipe, input or code; choose another folder, or add --overwrite"
        )


def _read_changed_again(plan: Plan | ExtractPlan, before: dict[str, Any]) -> None:
    """Forget what is done of shards that changed, and, where more than reading is, all that is.

    What is counted over the corpus cannot be mended for one shard, and is not kept for it.
    """
    names = _changed(plan, before)
    if not names or isinstance(plan, ExtractPlan):
        raise ManifestError(
            f"--retry-failed must find an unfinished run of the same recipe and code in "
            f"{plan.run.home}, got none; leave it out"
        )
    done, channels = plan.run.work / "done", plan.run.work / "channels"
    if any(path.name != "Read" for path in done.glob("*")):
        _log.info("the corpus was counted with what changed: all shards are read again")
        remove(plan.run.work)
        return
    _log.info("%d shards have changed, and are read again", len(names))
    same = {one.name for one in plan.bundles if not changed(before["shards"], one.shards)}
    for folder in (done / "Read", *(channel / "Read" for channel in channels.glob("*"))):
        for path in filter(Path.is_file, folder.rglob("*")):
            if path.relative_to(folder).with_suffix("").as_posix() not in same:
                path.unlink()
