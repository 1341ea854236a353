"""Take pairs down: out of every output of a run, for good, with a record that does not name them.

It can be stopped at any time: until it is done other jobs refuse the output, and the same command
goes on.  Decisions are made anew from columns in which the pairs are blank, so whatever is made of
a run afterwards is made without them; and a run that fills the output anew leaves them out.

What was counted of the corpus stays what other rows are judged by: their columns do not change, nor
do ranks, and a text or an image keeps its count as long as any other pair has it.  Names that only
such pairs had go, and n-grams count what is left.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import takedown_tasks as tasks
from pipelines.captions_page import write_captions_page
from pipelines.exchange import Run, Stage, perform
from pipelines.inputs import Shard
from pipelines.local import perform_all
from pipelines.plan import Plan, plan_of
from pipelines.rank import COLUMN
from pipelines.run import decide_again, known_facts, locked
from pipelines.takedown_list import (
    LIST,
    SCHEMA,
    file_sha256,
    is_listed,
    read_list,
    read_uids,
    write_list,
)
from pipelines.takedown_lookups import put_lookups, rewrite_lookups
from pipelines.takedown_shards import has_shards, rewrite_shard, with_digests
from pipelines.write import describe_shards, write_pages
from recaption.captions import captions_path, read_provenance
from recaption.choice import STATISTICS
from recaption.files import read_json, sweep, write_json, write_text
from recaption.manifest import UNFINISHED, ManifestError, read_manifest, stored_manifest
from recaption.statistics import Tally

REQUESTS, SAME_IMAGE = "takedown/requests.json", "takedown/same_image.txt"
"""The record of what was asked for and done; and the uids of other pairs with the same image."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a takedown did."""

    new: int
    """Uids that were not on the list."""
    pairs: int
    """Rows that went."""
    unknown: int
    """Of the new uids, those that no row has."""
    same_image: int
    """Other pairs that have an image of those."""


def take_down(asked: Path | None, output: Path, *, workers: int) -> Done:
    """Take down the pairs of some uids, and finish what was begun before.

    Args:
        asked: A file of uids, see `takedown_list.read_uids`; None: only finish what was begun.
        output: Of a filter run, or of a decision.
        workers: Local processes.

    Raises:
        ManifestError: There is no complete run, or nothing was begun, or the run was decided from
            the columns of another, which still has the pairs.
        RecipeError: The file holds no uids.
    """
    uids = read_uids(asked) if asked else pa.array([], pa.string())
    manifest = stored_manifest(output)
    plan = plan_of(output, manifest, workers=workers)
    begun = (output / UNFINISHED).exists()
    if not asked and not begun:
        raise ManifestError(
            f"{output} must have a takedown to finish, got none; name a file by --uids"
        )
    new = uids.filter(pc.invert(is_listed(uids, read_list(output))))
    if not len(new) and not begun:
        return Done(0, 0, 0, 0)
    _check_measured(plan.run, uids)
    with locked(output):
        done = _work(plan) if begun else None
        if asked and len(new):
            _begin(output, new, asked)
            done = _work(plan)
    if (output / "captions" / STATISTICS).exists():
        write_captions_page(output)
    return done or Done(0, 0, 0, 0)


def _check_measured(run: Run, uids: pa.StringArray) -> None:
    """Check that the pairs were taken down where their columns are."""
    if run.measured.resolve() == run.home.resolve():
        return
    read_manifest(run.measured)
    if not pc.all(is_listed(uids, read_list(run.measured)), min_count=0).as_py():
        raise ManifestError(
            f"{run.home} was decided from the columns of {run.measured}, so pairs must be taken "
            "down there first, got some that are not; run python -m pipelines takedown with the "
            f"same --uids and --from {run.measured}"
        )


def _begin(output: Path, new: pa.StringArray, asked: Path) -> None:
    """Put new uids on the list, which says from now on that a takedown is under way."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    told = [pa.repeat(when, len(new)), pa.repeat(file_sha256(asked), len(new))]
    rows = pa.table([new, *told, pa.nulls(len(new), pa.int64())], schema=SCHEMA)
    write_list(output / UNFINISHED, pa.concat_tables([read_list(output), rows]))


def _work(plan: Plan) -> Done:
    """Bring an output in line with its list; each step is done already, or can be done again."""
    home = plan.run.home
    run = replace(plan.run, output=home / "_work" / "takedown", partitions=1)
    sweep(home)
    found = _each(run, Stage("FindPairs", tasks.find_pairs), plan.shards)
    touched = [shard for shard in plan.shards if found[shard.name]["rows"]]
    return _finish(run, _remove(plan, run, touched) if touched else {})


def _remove(plan: Plan, run: Run, touched: Sequence[Shard]) -> dict[str, int]:
    """Remove what some shards have of pairs on the list; say how much, by where it was."""
    home = run.home
    perform(run, Stage("MergeFound", tasks.merge_found), 0)
    _each(run, Stage("LookForOthers", tasks.look_for_others), plan.shards)
    counted = perform(run, Stage("NameGone", tasks.name_gone), 0)
    facts = _rewrite_tables(run, counted)
    blanked = _each(run, Stage("Blank", tasks.blank_shard), touched)
    ngrams_gone = facts.pop("ngrams_gone", 0)
    deciding = replace(plan.run, output=home / "_work" / "decide")
    decide_again(replace(plan, run=deciding), facts, ())
    if has_shards(home):
        written = _each(run, Stage("Rewrite", rewrite_shard), plan.shards)
        describe_shards(plan.run, stored_manifest(home), with_digests(home, [*written.items()]))
        write_pages(stored_manifest(home), plan.run)
    _tally_captions(home, plan.shards)
    names = {name: part["distinct"] for name, part in counted.items()} | {"ngrams": ngrams_gone}
    return names | {"captions": sum(one["captions"] for one in blanked.values())}


def _each(run: Run, stage: Stage, items: Sequence[Any]) -> dict[str, Any]:
    return dict(perform_all(run, stage, items))


def _rewrite_tables(run: Run, counted: dict[str, Any]) -> dict[str, Any]:
    """Take names out of the tables that no other pair has; return what is known before deciding.

    An n-gram that was too rare for the list is among the distinct ones for ever.
    """
    known = known_facts(run.measured)
    if run.measured != run.home:
        return known
    names = {table: sorted((run.home / "tables" / table).glob("*.parquet")) for table in COLUMN}
    parts = [tasks.TablePart(table, path) for table, paths in names.items() for path in paths]
    written = _each(run, Stage("RewriteTables", tasks.rewrite_part), parts)
    perform(run, Stage("RewriteLookups", rewrite_lookups), 0)
    path = run.work / "facts.json"
    if not path.exists():  # what is there may be of the new decisions already
        gone = sum(one["gone"] for name, one in written.items() if name.startswith("ngrams/"))
        lost = {"distinct": gone, "listed": gone, "occurrences": tasks.occurrences_gone(run)}
        _subtract(known["tables"]["ngrams"], lost)
        for table, less in counted.items():
            shared = less["shared"]
            lost = {"distinct": less["distinct"], "shared": shared, "listed": shared}
            _subtract(known["tables"][table], lost)
            _subtract(known.get("sharing", {}).get(table, {}), less["bins"])
        write_json(path, known | {"ngrams_gone": gone})
    for part in parts:
        tasks.put_part(run, part)
    put_lookups(run)
    stored: dict[str, Any] = read_json(path)
    return stored


def _subtract(counts: dict[str, int], less: dict[str, int]) -> None:
    """Take numbers away, and bins of histograms that are empty then."""
    for name in counts.keys() & less.keys():
        counts[name] -= less[name]
        if name.isdecimal() and not counts[name]:
            del counts[name]


def _tally_captions(home: Path, shards: Iterable[Shard]) -> None:
    """Count again what the choice of captions did, which stays as it was for all others."""
    path = home / "captions" / STATISTICS
    if not path.exists():
        return
    choice = read_provenance(home)["choice"]
    tally = Tally(choice["itm"])
    for shard in shards:
        tally.add(pq.read_table(captions_path(home, shard.name)))
    write_json(path, tally.told() | {"choice": choice})


def _finish(run: Run, removed: dict[str, int]) -> Done:
    """Write the record, and then the list, which says that it is done."""
    home, listed, rows = run.home, read_list(run.home), tasks.pairs_by_uid(run)
    pairs = pa.array([rows[uid] for uid in listed["uid"].to_pylist()], pa.int64())
    new = listed.set_column(3, SCHEMA.field("pairs"), pairs).filter(pc.is_null(listed["pairs"]))
    done = Done(
        new=len(new),
        pairs=pc.sum(new["pairs"], min_count=0).as_py(),
        unknown=int(pc.sum(pc.equal(new["pairs"], 0), min_count=0).as_py()),
        same_image=_write_same_image(run, listed),
    )
    request = {"asked": new["asked"][0].as_py(), "sha256": new["sha256"][0].as_py()}
    recorded = read_json(home / REQUESTS) if (home / REQUESTS).exists() else []
    if not any(request.items() <= one.items() for one in recorded):
        write_json(home / REQUESTS, [*recorded, request | asdict(done) | {"removed": removed}])
    shutil.rmtree(home / "_work")
    before = listed.filter(pc.is_valid(listed["pairs"]))
    write_list(home / LIST, pa.concat_tables([before, new]))
    (home / UNFINISHED).unlink()
    return done


def _write_same_image(run: Run, listed: pa.Table) -> int:
    """Write the uids of other pairs with an image of those that went; return how many there are."""
    path = run.home / SAME_IMAGE
    before = path.read_text(encoding="utf-8").split() if path.exists() else []
    every = pa.array([*before, *tasks.same_image(run)], pa.string())
    others = sorted(pc.unique(every.filter(pc.invert(is_listed(every, listed)))).to_pylist())
    write_text(path, "".join(f"{uid}\n" for uid in others))
    return len(others)
