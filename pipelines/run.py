"""Run a planned job, on this machine or on a runner: lock the output, go, and tidy up."""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from filters.rule import RecipeError
from pipelines import dataflow, statistics, usage
from pipelines.crawl import LEFT_BY_EXTRACT, ExtractPlan
from pipelines.exchange import Run
from pipelines.options import names_runner
from pipelines.plan import Plan
from pipelines.shard_table import write_shard_table
from pipelines.store_lock import held
from pipelines.unfinished import ANY, STATE, Wish, is_complete, prepare
from recaption.choice import STATISTICS, account
from recaption.files import read_json, remove, write_json
from recaption.filter_run import FilterRun
from recaption.manifest import NAME, ManifestError, read_manifest
from recaption.settings import Settings
from recaption.stores import StorePath, scratch

_log = logging.getLogger("altmill")

_LEFT_BY_RUN = (
    *("columns", "decisions", "tables", "shards", "download", "captions", "report", "audit"),
    *("subset.npy", statistics.NAME),
    NAME,
)
_TEMPLATE = "a template was written, and Dataflow does the rest"


def run_filter(plan: Plan, options: Sequence[str] = (), wish: Wish = ANY) -> str:
    """Filter a corpus.

    Args:
        plan: From `plan_filter`.
        options: Beam's, such as `--runner=FlinkRunner`.
        wish: What to do with what is in the output folder.

    Returns:
        What was sent where, or would be, if nothing has run; "" if the results are there.

    Raises:
        ManifestError: The output folder holds another run, or somebody is writing to it.
    """
    from pipelines.jobs import filter_corpus

    job = partial(filter_corpus, run=plan.run)
    return _bring_to_its_end(plan, plan.bundles, job, options, _LEFT_BY_RUN, wish)


def run_extract(plan: ExtractPlan, options: Sequence[str] = (), wish: Wish = ANY) -> str:
    """Extract the pairs of a crawl.

    Args:
        plan: From `plan_extract`.
        options: Beam's.
        wish: What to do with what is in the output folder.

    Returns:
        What was sent where, or would be, if nothing has run; "" if the results are there.

    Raises:
        ManifestError: The output folder holds another run, or somebody is writing to it.
    """
    from pipelines.jobs import extract_corpus

    job = partial(extract_corpus, run=plan.run)
    return _bring_to_its_end(plan, plan.parts, job, options, LEFT_BY_EXTRACT, wish)


def _bring_to_its_end(
    plan: Plan | ExtractPlan,
    items: Sequence[Any],
    job: Callable[[Any], Any],
    options: Sequence[str],
    left: Iterable[str],
    wish: Wish,
) -> str:
    """Run a job over items, unless it is complete; `left` names what such a run leaves."""
    if dataflow.is_dry(options):
        return dataflow.described(submit(items, job, options).job)
    with locked(plan.run.home):
        if is_complete(plan):
            return ""
        prepare(plan, left, wish)
        before = time.process_time()
        seconds = _time(lambda: _go(items, job, options))
        if dataflow.is_template(options):
            return _TEMPLATE
        state = {"plan": plan.digest, "seconds": round(seconds, 1), "workers": plan.run.workers}
        state["stages"] = usage.add_up(plan.run.work, time.process_time() - before)
        write_json(plan.run.home / STATE, state)
        remove(plan.run.work)
    return ""


def run_decide(plan: Plan, options: Sequence[str] = ()) -> None:
    """Decide again from measured columns; the old decisions stay until the new ones are whole."""
    with locked(plan.run.home):
        _check_output(plan.run)
        # No longer the filter run's, and of pairs that may be others now.
        stale = (STATE, "shards", "download")
        decide_again(plan, known_facts(plan.run.measured), stale, options)
        remove(scratch(plan.run.home))


def known_facts(measured: Path) -> dict[str, Any]:
    """Return what a run knows before it decides: facts of its shards, and what was counted."""
    old = read_json(measured / NAME)
    read = ("shard", "kind", "tar", "parquet", "columns", "rows", "files", "damage")
    shards = {shard["shard"]: {name: shard[name] for name in read} for shard in old["shards"]}
    known = {"shards": shards, "tables": old["tables"]}
    path = measured / statistics.NAME
    sharing = read_json(path).get("sharing") if path.exists() else None
    return known | ({"sharing": sharing} if sharing else {})


def decide_again(
    plan: Plan, known: dict[str, Any], stale: Sequence[str], options: Sequence[str] = ()
) -> None:
    """Decide, in an output that is locked, and put what that gives in the place of the old.

    Args:
        plan: Its run's output is where the new things are until they are whole.
        known: From `known_facts`.
        stale: What else goes; shards are written only if the old ones do.
        options: Beam's.
    """
    import apache_beam as beam

    from pipelines.jobs import decide_corpus

    materialise = plan.run.recipe.materialise and "shards" in stale

    def build(shards: Any) -> Any:
        told = shards.pipeline | "Known" >> beam.Create([("", known)])
        return decide_corpus(shards, plan.run, [told], materialise=materialise)

    remove(plan.run.output)
    _go(plan.bundles, build, options)
    decided = ("decisions", "subset.npy", "tables/merged_captions", "report", "audit")
    for name in (*stale, *decided, statistics.NAME, NAME):
        new, place = plan.run.output / name, plan.run.home / name
        if not new.is_file():  # a file is replaced at once: there is a manifest at any time
            remove(place)
        if new.exists():
            _move(new, place)
    remove(plan.run.output)


def run_materialise(plan: Plan, options: Sequence[str] = ()) -> tuple[Path, dict[str, int]]:
    """Write the pairs that stay; return the folder, and how many are in each file."""
    from pipelines.jobs import materialise_corpus
    from pipelines.write import LISTS, SHARDS, SIZES

    with locked(plan.run.home):
        remove(plan.run.work)
        for folder in (SHARDS, LISTS):
            remove(plan.run.home / folder)
        _go(plan.bundles, partial(materialise_corpus, run=plan.run), options)
        remove(plan.run.work)
        write_shard_table(read_manifest(plan.run.home), plan.run.home)
    at = (plan.run.home / folder / SIZES for folder in (SHARDS, LISTS))
    path = next(path for path in at if path.exists())
    return path.parent, read_json(path)


def run_recaption(
    output: Path, settings: Settings, names: Sequence[str], options: Sequence[str] = ()
) -> str:
    """Write, score and choose captions; return the account of them.

    Args:
        output: Of a filter run.
        settings: A recipe of recaptioning.
        names: Of the captioner, the scorer, the device and the accelerator; empty: those of the
            run, any, and none.
        options: Beam's.

    Returns:
        The account of captions, or, if nothing has run, what was sent where, or would be.
    """
    from pipelines.captioning import Captioning, caption_corpus

    shards = [shard.name for shard in FilterRun(output).shards]
    job = Captioning(output.absolute(), settings, *names)
    build = partial(caption_corpus, job=job)
    options = [*options, *(dataflow.ONE_PROCESS if job.accelerator else ())]
    if dataflow.is_dry(options):
        return dataflow.described(submit(shards, build, options).job)
    with locked(output):
        _go(shards, build, options)
    if dataflow.is_template(options):
        return _TEMPLATE
    return account(read_json(output / "captions" / STATISTICS))


def _check_output(run: Run) -> None:
    """Check that deciding does not replace the results of a filter run over another input."""
    other = run.home.resolve() != run.measured.resolve()
    left = (run.home / "columns", scratch(run.home) / "plan.json")
    if other and any(path.exists() for path in left):
        raise ManifestError(
            f"output {run.home} must not hold another filter run, got one there; choose another "
            "folder"
        )


def _go(shards: Sequence[Any], build: Callable[[Any], Any], options: Sequence[str]) -> None:
    """Run a pipeline to its end."""
    if dataflow.is_dry(options):
        raise RecipeError(
            "--dry_run must be of filter, extract or recaption, which run on Dataflow, got a job "
            "that does not; leave it out"
        )
    submit(shards, build, options)


def submit(shards: Sequence[Any], build: Callable[[Any], Any], options: Sequence[str]) -> Any:
    """Have a pipeline run; return its result."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    chosen = dataflow.read_options(options)
    try:
        begun = beam.Pipeline(None if names_runner(options) else FnApiRunner(), options=chosen)
    except ValueError as error:
        told = " ".join(str(error).split())  # of several lines
        raise RecipeError(f"Beam's options must be right, got: {told}") from None
    with begun as pipeline:
        build(pipeline | "Shards" >> beam.Create(shards))
    return begun.result


def _time(work: Callable[[], None]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold an output folder, so that no other run writes to it."""
    if isinstance(output, StorePath):
        with held(output):
            yield
        return
    try:
        (output / "_work").mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise ManifestError(
            f"output {output} must be a folder that can be written, got: {error}; choose another"
        ) from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ManifestError(
                f"output {output} must be written by one run at a time, got another at work there; "
                "wait for it, or choose another folder"
            ) from None
        yield
    finally:
        with suppress(OSError):  # it stays if there is something to go on with
            (output / "_work").rmdir()
        os.close(folder)


def _move(new: Path, place: Path) -> None:
    """Move a file or folder of this machine to its place, which may be in an object store."""
    if isinstance(place, StorePath):
        place.put_tree(new)
    else:
        place.parent.mkdir(exist_ok=True)
        new.replace(place)
