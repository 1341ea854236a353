"""The work on one shard: write captions, score them, choose; each goes on where it stopped."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.captioner import Caption, Captioner, Score, Scorer
from recaption.captions import (
    CANDIDATE,
    SCHEMA,
    SCORED_BY,
    captions_path,
    note_of,
    read_provenance,
    with_note,
    write_table,
)
from recaption.filter_run import FilterRun, Shard
from recaption.parts import Parts, Places


def digest_of(spec: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits for a captioner's or scorer's spec."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def identity_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a captioner or scorer another: not where it lies, nor what it runs on."""
    incidental = {"device", "versions"}
    if spec.get("weights_sha256"):
        incidental |= {"captioner", "scorer"}
    return {name: value for name, value in spec.items() if name not in incidental}


def generate_shard(
    run: FilterRun,
    shard: Shard,
    captioner: Captioner,
    *,
    of_kept: bool = True,
    retry_failed: bool = False,
    overwrite: bool = False,
) -> int:
    """Write synthetic captions for the pairs of a shard that lack them; return for how many.

    Args:
        run: The filter run's output.
        shard: One of its shards.
        captioner: Writes the captions.
        of_kept: Ask for captions of pairs that the filter run kept, too.
        retry_failed: Ask again where a caption failed.
        overwrite: Ask again for all of them.

    Raises:
        RecipeError: Another captioner's captions are there already.
    """
    rows, maker = run.rows(shard), digest_of(captioner.spec)
    table = _opened(run, shard, rows, of_kept=of_kept, overwrite=overwrite)
    asked = table["asked"].to_numpy()
    lacking = asked & pc.is_null(table["candidates"]).to_numpy()
    if retry_failed:
        lacking |= _any_candidate(
            table["candidates"], lambda one: pc.is_valid(one.field("failure"))
        )
    elif not overwrite:
        _refuse_others(table, captioner.spec, run.output, shard)
    at = np.flatnonzero(lacking)

    def ask(some: Places) -> pa.Table:
        images = list(run.images(shard, rows, some))
        keys = rows["key"].take(pa.array(some)).to_pylist()
        found = captioner.caption(images, keys)
        column = [[_stored(caption, maker) for caption in several] for several in found]
        return pa.table({"candidates": pa.array(column, pa.list_(CANDIDATE))})

    parts = Parts(run.output, "generate", shard.name)
    new = parts.work(at, maker, ask, pa.schema([SCHEMA.field("candidates")]))
    table = _put(table, "candidates", at, new["candidates"])
    _save(run, shard, table, parts)
    return len(at)


def score_shard(run: FilterRun, shard: Shard, scorer: Scorer) -> int:
    """Score the captions of a shard that this scorer has not scored; return of how many pairs.

    The image is encoded once for its raw caption and all candidates.
    """
    rows, table, by = run.rows(shard), _read(run, shard), digest_of(identity_of(scorer.spec))
    at = np.flatnonzero(_unscored(table, same=note_of(table.schema, SCORED_BY) == by))
    texts = _texts(table.take(pa.array(at)))

    def judge(some: Places) -> pa.Table:
        first = int(np.searchsorted(at, some[0]))
        wanted = texts[first : first + len(some)]
        scores = scorer.score(list(run.images(shard, rows, some)), wanted)
        return pa.Table.from_pylist(
            [{"scores": [_told(score) for score in row]} for row in scores], _SCORED
        )

    parts = Parts(run.output, "score", shard.name)
    new = parts.work(at, by, judge, _SCORED)
    table = _with_scores(table, at, new["scores"].to_pylist())
    _save(run, shard, with_note(table, SCORED_BY, by), parts)
    return len(at)


def _told(score: Score) -> dict[str, float | None]:
    """Return a score in plain values: null where the image could not be judged."""
    return {name: None if math.isnan(value) else value for name, value in asdict(score).items()}


_SCORED = pa.schema(
    [("scores", pa.list_(pa.struct([("itc", pa.float32()), ("itm", pa.float32())])))]
)


def _opened(
    run: FilterRun, shard: Shard, rows: pa.Table, *, of_kept: bool, overwrite: bool
) -> pa.Table:
    """Return the shard's captions so far."""
    path = captions_path(run.output, shard.name)
    if path.exists() and not overwrite:
        return _read(run, shard)
    asked = rows["captionable"].to_numpy() & (of_kept | ~rows["kept"].to_numpy())
    known = {"uid": rows["uid"], "key": rows["key"], "raw": rows["caption"], "kept": rows["kept"]}
    known["asked"] = pa.array(asked)
    columns = {
        field.name: known.get(field.name, pa.nulls(len(rows), field.type)) for field in SCHEMA
    }
    return pa.table(columns, schema=SCHEMA)


def _read(run: FilterRun, shard: Shard) -> pa.Table:
    path = captions_path(run.output, shard.name)
    if not path.exists():
        raise RecipeError(
            f"{path} must be there to go on, got nothing; run generate over all shards first"
        )
    return pq.read_table(path).combine_chunks()


def _refuse_others(table: pa.Table, spec: Mapping[str, Any], output: Path, shard: Shard) -> None:
    """Refuse to add to the captions of another captioner."""
    each = table["candidates"].combine_chunks().flatten()
    makers = set(pc.unique(each.field("captioner")).to_pylist())
    known, own = read_provenance(output).get("captioners", {}), identity_of(spec)
    others = [
        maker
        for maker in sorted(makers - {digest_of(spec)})
        if maker not in known or identity_of(known[maker]) != own
    ]
    if others:
        raise RecipeError(
            f"{captions_path(output, shard.name)} must hold captions of one captioner, got those "
            f"of {', '.join(others)} in provenance.json while this one is {digest_of(spec)}; say "
            "--overwrite to replace them, or --retry-failed to ask this one for what failed"
        )


def _stored(caption: Caption, maker: str) -> dict[str, Any]:
    return asdict(caption) | {"captioner": maker}


def _any_candidate(
    candidates: pa.ChunkedArray, test: Callable[[pa.StructArray], pa.BooleanArray]
) -> NDArray[np.bool_]:
    """Say which rows have a candidate that passes a test."""
    lists = candidates.combine_chunks()
    passed = test(lists.flatten()).to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(lists).to_numpy()[passed]
    return np.bincount(rows, minlength=len(lists)) > 0


def _unscored(table: pa.Table, *, same: bool) -> NDArray[np.bool_]:
    asked, has_raw = table["asked"].to_numpy(), _has_raw(table)
    works = _any_candidate(table["candidates"], lambda one: pc.is_null(one.field("failure")))
    if not same:
        return asked & (has_raw | works)
    new = _any_candidate(
        table["candidates"],
        lambda one: pc.and_(pc.is_null(one.field("failure")), pc.is_null(one.field("itm"))),
    )
    return asked & (new | (has_raw & pc.is_null(table["raw_itm"]).to_numpy()))


def _has_raw(table: pa.Table) -> NDArray[np.bool_]:
    """Say which rows have a raw caption that is not blank."""
    length = pc.utf8_length(pc.utf8_trim_whitespace(table["raw"]))
    return pc.fill_null(pc.greater(length, 0), False).to_numpy()


def _texts(table: pa.Table) -> list[list[str]]:
    """Return what is to be scored of each row: its raw caption, and the candidates that work."""
    raw = table["raw"].to_pylist()
    return [
        [text] * bool(there) + [one["text"] for one in _working(candidates)]
        for text, there, candidates in zip(
            raw, _has_raw(table), table["candidates"].to_pylist(), strict=True
        )
    ]


def _working(candidates: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [one for one in candidates or () if one["failure"] is None]


def _with_scores(
    table: pa.Table, at: Places, scores: Sequence[Sequence[dict[str, float | None]]]
) -> pa.Table:
    rows = table.take(pa.array(at))
    has_raw, lists = _has_raw(rows), rows["candidates"].to_pylist()
    of_raw = [found[0] if there else {} for there, found in zip(has_raw, scores, strict=True)]
    for there, candidates, found in zip(has_raw, lists, scores, strict=True):
        for candidate, score in zip(_working(candidates), found[int(there) :], strict=True):
            candidate.update(score)
    for name in ("itc", "itm"):
        values = pa.array([score.get(name) for score in of_raw], pa.float32())
        table = _put(table, f"raw_{name}", at, values)
    return _put(table, "candidates", at, pa.array(lists, pa.list_(CANDIDATE)))


def _put(table: pa.Table, name: str, at: Places, values: Any) -> pa.Table:
    """Replace the values of a column at some places."""
    column = table[name].combine_chunks()
    pick = np.arange(len(column))
    pick[at] = len(column) + np.arange(len(at))
    new = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    mended = pa.concat_arrays([column, new]).take(pa.array(pick))
    return table.set_column(table.schema.get_field_index(name), name, mended)


def _save(run: FilterRun, shard: Shard, table: pa.Table, parts: Parts) -> None:
    write_table(captions_path(run.output, shard.name), table)
    parts.remove()
