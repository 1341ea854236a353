"""Write: the subset, the kept pairs as shards, the manifest and the report."""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.rule import RecipeError
from pipelines import card, croissant
from pipelines.captions import captions_of
from pipelines.decide import SUBSET, decisions_path, subset_part
from pipelines.exchange import Run, Send
from pipelines.image_reader import ImageReader, read_fields
from pipelines.inputs import Shard
from pipelines.manifest import build_manifest, close_account
from pipelines.materialised import facts_of, gather
from pipelines.measure import columns_path
from pipelines.report import write_report
from pipelines.shard_table import write_shard_table
from pipelines.shards import add_sample, write_stats
from pipelines.statistics import read_statistics, write_statistics
from pipelines.storage import join_parts, parquet_writer
from pipelines.summary import summarise
from pipelines.unchanged import check_digests, check_stamps
from recaption.captions import DECIDED_BY, captions_path, note_of, winners_of
from recaption.files import replacing, write_json, write_text
from recaption.manifest import NAME
from recaption.stores import readable

SHARDS, LISTS, SIZES = "shards", "download", "sizes.json"
"""Where kept pairs go, and those of metadata alone; and what says how many."""

WRITTEN = {"sizes", "listed"}
"""What `write_shard` tells of, but no other stage."""

_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg"}
MERGED = "merged_captions"
"""What a kept sample calls the captions of its copies."""
_INTERNAL = ["format", "image_offset", "image_bytes"]
_CHOICE = (
    *("caption_source", "org_caption", "org_itc", "org_itm"),
    *("re_caption", "re_itc", "re_itm", "captioner"),
)
"""What a sample says of its captions, by Recap-DataComp's names: the raw and the synthetic one."""
_OF_IMAGES = ["key", "width", "height", "sha256"]
_OURS = ("uid", "url", "caption", "key", "width", "height", "sha256")
_SAFE_KEY = re.compile(r"[\w-]+(/[\w-]+)*")


def write_shard(run: Run, shard: Shard, _: Iterator[pa.RecordBatch], __: Send) -> dict[str, Any]:
    """Write a shard's kept pairs as img2dataset does: a tar, a parquet and statistics.

    Pairs that were given captions are those, and have those, that were chosen.
    Image bytes are those of the input, and so are keys, but for those that a tar reader would cut
    at a dot.  The input's other columns are in the json and in the parquet.  Of metadata alone, it
    is the parquet that is left, without what is known of images: what img2dataset is to download.
    """
    check_stamps(shard)
    check_digests(shard)
    kept, at = _kept(run, shard)
    if shard.kind == "metadata":
        return _write_list(run, shard, kept.drop_columns([*_INTERNAL, *_OF_IMAGES]))
    folder = run.output / SHARDS
    fields = {} if shard.parquet else read_fields(shard)
    extensions = [extension_of(kind) for kind in kept["format"].to_pylist()]
    with (
        replacing(folder / f"{shard.name}.tar") as temporary,
        tarfile.open(temporary, "w") as tar,
        ImageReader(shard) as images,
    ):
        pairs = zip(kept.to_pylist(), extensions, images.read(at, kept), strict=True)
        for row, extension, image in pairs:
            record = fields.get(row["key"], {}) | {k: row[k] for k in row if k not in _INTERNAL}
            members = {
                extension: image,
                "txt": row["caption"].encode(),
                "json": json.dumps(record, default=str).encode(),
            }
            add_sample(tar, row["key"], members)
    kept = kept.drop_columns(_INTERNAL)
    with parquet_writer(folder / f"{shard.name}.parquet", kept.schema) as sink:
        sink.write_table(kept)
    write_stats(folder / f"{shard.name}_stats.json", {"success": len(kept)})
    check_stamps(shard)
    return facts_of(folder, shard.name, extensions, len(kept))


def extension_of(kind: str) -> str:
    """Return the extension of an image's member, given its format."""
    return _EXTENSIONS.get(kind, kind.lower())


def stays_of(run: Run, shard: Shard) -> pa.ChunkedArray:
    """Say which of a shard's rows are written.

    Raises:
        RecipeError: They were given captions, of which none were chosen since the last decision.
    """
    return _stays(run, shard, _captions(run, shard))


def _stays(run: Run, shard: Shard, captions: pa.Table | None) -> pa.ChunkedArray:
    if captions:
        return pc.is_valid(captions["chosen"])
    decided = decisions_path(run.output, shard.name)
    return pc.is_null(pq.read_table(readable(decided), columns=["reason"])["reason"])


def _write_list(run: Run, shard: Shard, kept: pa.Table) -> dict[str, Any]:
    if len(kept):  # img2dataset fails at a file of none
        with parquet_writer(run.output / LISTS / f"{shard.name}.parquet", kept.schema) as sink:
            sink.write_table(kept)
    return {"listed": {f"{shard.name}.parquet": len(kept)}}


def _kept(run: Run, shard: Shard) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return a shard's kept rows, the input's own columns among theirs, and their places."""
    columns = pq.read_table(columns_path(run.measured, shard.name))
    captions = _captions(run, shard)
    at = np.flatnonzero(_stays(run, shard, captions).to_numpy())
    kept = columns.select([*_OURS, *_INTERNAL]).take(pa.array(at))
    keys = [
        key if _SAFE_KEY.fullmatch(key) else f"row-{row:09d}"
        for key, row in zip(kept["key"].to_pylist(), at.tolist(), strict=True)
    ]
    kept = kept.set_column(kept.schema.get_field_index("key"), "key", pa.array(keys, pa.string()))
    for name, column in _others(shard, len(columns)).items():
        kept = kept.append_column(name, column.take(pa.array(at)))
    if captions:
        kept = _with_captions(kept, captions.take(pa.array(at)))
    if run.recipe.duplicate and run.recipe.duplicate.merge_captions:
        kept = kept.append_column(MERGED, captions_of(run, shard, at, kept["uid"]))
    return kept, at


def _captions(run: Run, shard: Shard) -> pa.Table | None:
    """Read what was chosen for a shard; None where no captions were written."""
    path = captions_path(run.output, shard.name)
    if not path.exists():
        return None
    captions = pq.read_table(path)
    if note_of(captions.schema, DECIDED_BY) != run.recipe.digest:
        raise RecipeError(
            f"{path} must be chosen by what is decided now, got captions that are not; run python "
            "-m recaption choose"
        )
    return captions


def _with_captions(kept: pa.Table, captions: pa.Table) -> pa.Table:
    """Put the chosen captions in the place of the raw ones, and add what they were chosen from."""
    winners = winners_of(captions)
    kept = kept.set_column(kept.schema.get_field_index("caption"), "caption", captions["chosen"])
    raw, scores = captions["raw"], (captions["raw_itc"], captions["raw_itm"])
    new = [winners.field(name) for name in ("text", "itc", "itm", "captioner")]
    for name, column in zip(_CHOICE, (captions["origin"], raw, *scores, *new), strict=True):
        kept = kept.append_column(name, column)
    return kept


def _others(shard: Shard, rows: int) -> dict[str, pa.Array]:
    """Read the columns of a shard's parquet that have no measured twin, null beyond its rows."""
    if shard.parquet is None:
        return {}
    with pq.ParquetFile(readable(shard.parquet)) as file:
        twins = {shard.columns.get(name) for name in (*_OURS, "image")}
        twins |= {*_OURS, *_CHOICE, MERGED}
        names = [name for name in file.schema_arrow.names if name not in twins]
        table = file.read(columns=names)
    missing = pa.nulls(rows - len(table))
    return {
        name: pa.concat_arrays([*column.chunks, missing.cast(column.type)])
        for name, column in zip(names, table.columns, strict=True)
    }


def finish(account: dict[str, Any], run: Run, *done: Iterable[tuple[str, Any]]) -> str:
    """Write what needs the whole run; return the manifest's path.

    Args:
        account: The stages' results, added up.
        run: The run.
        *done: Results of stages that must be complete before.

    Raises:
        ManifestError: The account does not close.
    """
    parts = [lambda at=at: np.load(subset_part(run, at)) for at in range(run.partitions)]
    uids = join_parts(run.output / "subset.npy", SUBSET, parts).rows
    manifest = build_manifest(account, run) | {"subset_uids": uids}
    close_account(manifest)
    found = [(name, one) for name, one in chain.from_iterable(done) if one.keys() & WRITTEN]
    if found:
        describe_shards(run, manifest, found)
    write_statistics(account, run.output)
    write_pages(manifest, run)
    write_json(run.output / NAME, manifest)
    return str(run.output / NAME)


def write_pages(manifest: dict[str, Any], run: Run) -> Path:
    """Write the report of a run from its manifest and statistics; return the page's path.

    Raises:
        ManifestError: The statistics are not there.
    """
    write_shard_table(manifest, run.output)
    statistics = read_statistics(run.output)
    return write_report(summarise(statistics, manifest, run), run.output / "report")


def describe_shards(run: Run, manifest: dict[str, Any], done: Iterable[tuple[str, Any]]) -> str:
    """Write what is beside a run's shards: `sizes.json`, a card and a Croissant file.

    Beside lists of what is to be downloaded, it is `sizes.json` alone.

    Args:
        run: The run.
        manifest: Its manifest.
        done: Results of `write_shard`, and others.

    Returns:
        The path of `sizes.json`.
    """
    found = [one for _, one in done]
    listed = {name: rows for one in found for name, rows in one.get("listed", {}).items()}
    if listed:
        write_json(run.output / LISTS / SIZES, dict(sorted(listed.items())))
        return str(run.output / LISTS / SIZES)
    folder = run.output / SHARDS
    data = gather(run.output, manifest, found)
    write_json(folder / SIZES, data.sizes)
    write_text(folder / card.NAME, card.render_card(data))
    write_json(folder / croissant.NAME, croissant.croissant(data))
    return str(folder / SIZES)
