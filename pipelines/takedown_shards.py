"""Write shards again without the pairs that were taken down; shards of others stay as they are.

A pair's files are copied from the old tar, so the input need not be there any more.
"""

import logging
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.rule import RecipeError
from pipelines.captions import captions_of
from pipelines.croissant import NAME as CROISSANT
from pipelines.exchange import Run, Send
from pipelines.inputs import InputError, Shard
from pipelines.materialised import facts_of
from pipelines.measure import columns_path
from pipelines.shards import write_stats
from pipelines.storage import parquet_writer
from pipelines.takedown_list import is_listed, read_list
from pipelines.write import LISTS, MERGED, SHARDS, SIZES, extension_of, stays_of, write_shard
from recaption.files import read_json, replacing

_log = logging.getLogger("altmill")


def has_shards(home: Path) -> bool:
    """Say whether a run's output has shards, or lists of what is to be downloaded."""
    return any((home / folder / SIZES).exists() for folder in (SHARDS, LISTS))


def rewrite_shard(
    run: Run, shard: Shard, received: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Write a shard again if pairs of it go, or come in the place of copies that go.

    Where some are to come and the input is another by now, they do not.
    """
    run = replace(run, output=run.home)
    folder = run.home / (LISTS if shard.kind == "metadata" else SHARDS)
    path = folder / f"{shard.name}.parquet"
    old = pq.read_table(path) if path.exists() else pa.table({"uid": pa.array([], pa.string())})
    now = _now(run, shard, old)
    same = _same(run, shard, old, now)
    if same.sum() < len(now):
        try:
            return write_shard(run, shard, received, send)
        except InputError as error:
            _log.warning("pairs of shard %s stay out of %s: %s", shard.name, folder, error)
    if not same.all():
        old = old.filter(pa.array(same))
        _drop(folder, shard, old)
    return _facts(folder, shard, old, now, changed=not same.all())


def with_digests(home: Path, found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Add the digests of shards that stayed as they are, as their Croissant file tells them."""
    path = home / SHARDS / CROISSANT
    told = read_json(path)["distribution"] if path.exists() else ()
    known = {file["name"]: file["sha256"] for file in told if "sha256" in file}
    for _, one in found:
        for tar in one.get("sizes", {}):
            beside = tar.removesuffix(".tar") + ".parquet"
            one.setdefault("files", {name: known[name] for name in (tar, beside)})
    return found


def _now(run: Run, shard: Shard, old: pa.Table) -> pa.Table:
    """Return `uid` and `format` of the rows that a shard is to have."""
    columns = pq.read_table(columns_path(run.measured, shard.name), columns=["uid", "format"])
    try:
        return columns.filter(stays_of(run, shard))
    except RecipeError:  # captions were written after the shard, and are not chosen yet
        there = pc.is_in(columns["uid"], old["uid"].combine_chunks())
        there = pc.and_(there, pc.invert(is_listed(columns["uid"], read_list(run.home))))
        return columns.filter(there)


def _same(run: Run, shard: Shard, old: pa.Table, now: pa.Table) -> NDArray[np.bool_]:
    """Say which rows of an old shard are to be in the new one as they are."""
    same = pc.is_in(old["uid"], now["uid"].combine_chunks()).to_numpy()
    if MERGED in old.column_names:
        places = np.arange(len(old))
        merged = captions_of(run, shard, places, old["uid"]).to_pylist()
        pairs = zip(old[MERGED].to_pylist(), merged, strict=True)
        same = same & np.array([a == b for a, b in pairs], bool)
    return same


def _drop(folder: Path, shard: Shard, left: pa.Table) -> None:
    """Leave only some rows of a shard."""
    path = folder / f"{shard.name}.parquet"
    if shard.kind == "metadata" and not len(left):
        path.unlink()  # img2dataset fails at a file of none
        return
    with parquet_writer(path, left.schema) as sink:
        sink.write_table(left)
    if shard.kind == "metadata":
        return
    keys, tar = {*left["key"].to_pylist()}, folder / f"{shard.name}.tar"
    with (
        replacing(tar) as temporary,
        tarfile.open(tar) as source,
        tarfile.open(temporary, "w") as sink,
    ):
        for member in source:
            if member.name.partition(".")[0] in keys:
                sink.addfile(member, source.extractfile(member))
    write_stats(folder / f"{shard.name}_stats.json", {"success": len(left)})


def _facts(
    folder: Path, shard: Shard, rows: pa.Table, now: pa.Table, *, changed: bool
) -> dict[str, Any]:
    """Return what `write_shard` would; without digests of what has not changed."""
    if shard.kind == "metadata":
        return {"listed": {f"{shard.name}.parquet": len(rows)}}
    at = pc.index_in(rows["uid"], now["uid"].combine_chunks())
    extensions = Counter(map(extension_of, now["format"].take(at).to_pylist()))
    if changed:
        return facts_of(folder, shard.name, extensions.elements(), len(rows))
    tar = f"{shard.name}.tar"
    size = (folder / tar).stat().st_size
    return {"sizes": {tar: len(rows)}, "size_bytes": size, "images": dict(extensions)}
