"""What taking pairs down does to a shard, or to a part of a table; each is done once, or again.

Names that pairs had, texts, images and n-grams, leave the tables where no other pair has them.
For that the pairs are looked at before they are blanked, and what was found is kept beside the
run until it is over.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.text import normalise, text_keys, tokenise
from pipelines import ngrams
from pipelines.count import SHARING
from pipelines.duplicates import BATCH_ROWS
from pipelines.exchange import Run, Send
from pipelines.facts import image_keys
from pipelines.inputs import Shard
from pipelines.measure import columns_path
from pipelines.rank import COLUMN
from pipelines.schema import COLUMNS
from pipelines.storage import ipc_writer, parquet_writer, read_ipc
from pipelines.takedown_list import blank, is_listed, read_list
from recaption.captions import captions_path, write_table
from recaption.files import replacing

_FOUND = pa.schema(
    [
        ("uid", pa.string()),
        ("text", pa.string()),
        ("texts", pa.int64()),
        ("image", pa.string()),
        ("images", pa.int64()),
        ("caption", pa.string()),
    ]
)
"""Of a pair that goes: `text` and `image`, its keys, and `texts` and `images`, their counts in the
tables, null where they were not counted."""
_STILL = pa.schema([("kind", pa.string()), ("name", pa.string())])
_COUNTED = pa.schema([("name", pa.string()), ("count", pa.int64())])

Received = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class TablePart:
    """A file of a corpus-wide table."""

    table: str
    path: Path

    @property
    def name(self) -> str:
        """The part's name among those of all tables."""
        return f"{self.table}/{self.path.stem}"


def find_pairs(run: Run, shard: Shard, _: Received, __: Send) -> dict[str, Any]:
    """Find a shard's pairs on the list, and keep what is asked about them later.

    Of those that went before, nothing is known any more.
    """
    listed, rows = read_list(run.home), 0
    uids = pq.read_table(columns_path(run.measured, shard.name), columns=["uid"])["uid"]
    if not pc.any(is_listed(uids, listed), min_count=0).as_py():
        return {"rows": 0}
    with ipc_writer(_path(run, "found", shard.name), _FOUND) as sink:
        for batch in _read(run, shard, COLUMNS.names):
            columns = batch.filter(is_listed(batch["uid"], listed))
            rows += len(columns)
            counted = (columns["images_per_text"], columns["texts_per_image"])
            parts = [columns["uid"], _texts(columns), counted[0], image_keys(columns), counted[1]]
            sink.write_batch(pa.record_batch([*parts, columns["caption"]], schema=_FOUND))
    return {"rows": rows}


def merge_found(run: Run, _: int, __: Received, ___: Send) -> dict[str, Any]:
    """Bring together what the pairs had."""
    found = _all(run, "found", _FOUND)
    for kind, count in (("text", "texts"), ("image", "images")):
        names = found.filter(pc.is_valid(found[count])).group_by(kind, use_threads=False)
        counted = names.aggregate([(count, "max")]).select([kind, f"{count}_max"])
        _save(run, f"names/{kind}", counted.rename_columns(_COUNTED.names))
        every = pc.unique(found[kind].drop_null())
        _save(run, f"every/{kind}", pa.table({"name": every, "count": pa.nulls(len(every), "i8")}))
    seed = run.recipe.tables.hash_seed
    tokens = (tokenise(normalise(one["caption"])) for one in found.to_batches(BATCH_ROWS))
    merged = ngrams.merge(ngrams.count(ngrams.vocabulary(some, seed)) for some in tokens)
    _save(run, "names/ngram", merged.select(_COUNTED.names))
    return {}


def look_for_others(run: Run, shard: Shard, _: Received, __: Send) -> dict[str, Any]:
    """Find which of the names other pairs of a shard have, and the pairs with the same image."""
    listed = read_list(run.home)
    names = {kind: _load(run, f"every/{kind}")["name"].combine_chunks() for kind in _KEYS}
    others: list[pa.Table] = []
    for columns in _read(run, shard, ["uid", "caption", "url", "sha256", "images_per_text"]):
        rest = columns.filter(pc.invert(is_listed(columns["uid"], listed)))
        counted = pc.is_valid(rest["images_per_text"])
        for kind, keys in (("text", _texts(rest)), ("image", image_keys(rest))):
            same = pc.and_(pc.is_in(keys, names[kind]), pc.is_valid(keys))
            others.append(_told(kind, pc.unique(keys.filter(pc.and_(same, counted)))))
            if kind == "image":
                others.append(_told("uid", rest["uid"].filter(same)))
    told = pa.concat_tables([_STILL.empty_table(), *others]).group_by(
        _STILL.names, use_threads=False
    )
    with ipc_writer(_path(run, "others", shard.name), _STILL) as sink:
        sink.write_table(told.aggregate([]).select(_STILL.names).cast(_STILL))
    return {}


def occurrences_gone(run: Run) -> int:
    """Return how many n-grams the captions had in all."""
    return pc.sum(_load(run, "names/ngram")["count"], min_count=0).as_py()


def pairs_by_uid(run: Run) -> Counter[str]:
    """Return how many rows each uid on the list has."""
    return Counter(_all(run, "found", _FOUND)["uid"].to_pylist())


def name_gone(run: Run, _: int, __: Received, ___: Send) -> dict[str, Any]:
    """Find the names that no other pair has; return what that makes of what was counted."""
    others, counted = _all(run, "others", _STILL), {}
    for kind in _KEYS:
        names = _load(run, f"names/{kind}")
        still = others["name"].filter(pc.equal(others["kind"], kind)).combine_chunks()
        gone = names.filter(pc.invert(pc.is_in(names["name"], still)))
        _save(run, f"gone/{kind}", gone)
        counts = gone["count"].to_numpy()
        bins = np.searchsorted(SHARING, counts, "right") - 1
        counted[f"{kind}s"] = {
            "distinct": len(gone),
            "shared": int((counts > 1).sum()),
            "bins": {str(SHARING[at]): int(n) for at, n in enumerate(np.bincount(bins)) if n},
        }
    uids = others["name"].filter(pc.equal(others["kind"], "uid"))
    _save(run, "same_image", pa.table({"name": uids, "count": pa.nulls(len(uids), "i8")}))
    return counted


def rewrite_part(run: Run, part: TablePart, _: Received, __: Send) -> dict[str, Any]:
    """Write a part of a table without the names that are gone, if it has any, beside the old one.

    Of n-grams it counts what is left; ranks stay, as rows are judged by them.
    """
    column, is_ngram = COLUMN[part.table], part.table == "ngrams"
    names = _load(run, f"{'names' if is_ngram else 'gone'}/{column}").combine_chunks()
    gone: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    hit = False
    with (
        pq.ParquetFile(part.path) as file,
        parquet_writer(_staged(run, part), file.schema_arrow) as sink,
    ):
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group).combine_chunks()
            known = pc.cast(names["name"].combine_chunks(), rows[column].type)
            at = pc.index_in(rows[column].combine_chunks(), known)
            taken = pc.fill_null(names["count"].combine_chunks().take(at), 0)
            left = pc.subtract(rows["count"], taken) if is_ngram else rows["count"]
            stays = pc.greater(left, 0) if is_ngram else pc.is_null(at)
            sink.write_table(rows.set_column(2, "count", left).filter(stays))
            gone.append(rows["rank"].filter(pc.invert(stays)).to_numpy())
            hit |= at.null_count < len(at)
    if not hit:
        _staged(run, part).unlink()
    if is_ngram:
        with replacing(_ranks(run, part)) as temporary, temporary.open("wb") as sink:
            np.save(sink, np.concatenate(gone))
    return {"gone": sum(map(len, gone))}


def gone_ranks(run: Run) -> NDArray[np.int64]:
    """Return the ranks of the n-grams that are gone."""
    parts = sorted((run.work / "taken" / "ranks").rglob("*.npy"))
    return np.concatenate([np.empty(0, np.int64), *map(np.load, parts)])


def gone_names(run: Run, kind: str) -> pa.StringArray:
    """Return the texts, or the images, that are gone."""
    return _load(run, f"gone/{kind}")["name"].combine_chunks()


def put_part(run: Run, part: TablePart) -> None:
    """Put a part that was written in the place of the old one."""
    staged = _staged(run, part)
    if staged.exists():
        staged.replace(part.path)


def blank_shard(run: Run, shard: Shard, _: Received, __: Send) -> dict[str, Any]:
    """Blank a shard's pairs in `columns/` and `captions/`."""
    listed = read_list(run.home)
    if run.measured == run.home:
        _blank_columns(columns_path(run.home, shard.name), listed)
    blanked = _blank_captions(captions_path(run.home, shard.name), listed)
    for folder in (run.home / "captions" / "_parts").glob("*"):
        shutil.rmtree(folder / shard.name, ignore_errors=True)
    return {"captions": blanked}


def _blank_columns(path: Path, listed: pa.Table) -> None:
    with pq.ParquetFile(path) as file, parquet_writer(path, COLUMNS) as sink:
        for group in range(file.num_row_groups):
            for rows in file.read_row_group(group).combine_chunks().to_batches():
                sink.write_batch(blank(rows, is_listed(rows["uid"], listed)))


def _blank_captions(path: Path, listed: pa.Table) -> int:
    if not path.exists():
        return 0
    table = pq.read_table(path)
    where = is_listed(table["uid"].combine_chunks(), listed)
    none = pa.array(np.arange(len(table)), mask=where.to_numpy(zero_copy_only=False))
    blanked = table.take(none)
    for at, field in enumerate(table.schema):
        if field.name in ("uid", "key"):
            blanked = blanked.set_column(at, field, table[field.name])
        elif pa.types.is_boolean(field.type):
            values = pc.if_else(where, False, table[field.name])
            blanked = blanked.set_column(at, field, values)
    write_table(path, blanked.replace_schema_metadata(table.schema.metadata))
    return int(pc.sum(where, min_count=0).as_py())


_KEYS = ("text", "image")


def same_image(run: Run) -> list[str]:
    """Return the uids of other pairs that have an image of those that are gone."""
    if not _path(run, ".", "same_image").exists():  # no pair has gone
        return []
    uids: list[str] = _load(run, "same_image")["name"].to_pylist()
    return uids


def _texts(columns: pa.RecordBatch) -> pa.StringArray:
    keys = text_keys(normalise(columns["caption"]))
    return pc.if_else(pc.equal(keys, ""), pa.scalar(None, pa.string()), keys)


def _read(run: Run, shard: Shard, names: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(columns_path(run.measured, shard.name)) as source:
        yield from source.iter_batches(BATCH_ROWS, columns=names)


def _told(kind: str, names: pa.StringArray) -> pa.Table:
    return pa.table([pa.repeat(kind, len(names)), names], schema=_STILL)


def _staged(run: Run, part: TablePart) -> Path:
    return run.work / "tables" / f"{part.name}.parquet"


def _ranks(run: Run, part: TablePart) -> Path:
    return run.work / "taken" / "ranks" / f"{part.name}.npy"


def _path(run: Run, what: str, name: str) -> Path:
    return run.work / "taken" / what / f"{name}.arrow"


def _all(run: Run, what: str, schema: pa.Schema) -> pa.Table:
    paths = sorted((run.work / "taken" / what).rglob("*.arrow"))
    return pa.Table.from_batches((one for path in paths for one in read_ipc(path)), schema)


def _save(run: Run, what: str, names: pa.Table) -> None:
    with ipc_writer(_path(run, ".", what), _COUNTED) as sink:
        sink.write_table(names.cast(_COUNTED))


def _load(run: Run, what: str) -> pa.Table:
    return pa.Table.from_batches(read_ipc(_path(run, ".", what)), _COUNTED)
