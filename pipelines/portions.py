"""The rows of a list of URLs, cut into what becomes one shard each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.arrivals import MEASURED
from pipelines.cleaning import clean_text
from pipelines.inputs import Shard
from recaption.stores import readable

_LEAST_DIGITS = 5
"""Of a shard's name, as in img2dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion(Shard):
    """The rows of an input file that become one shard, whose name it has."""

    first: int
    """The first one's place in the file."""


def cut(shards: Sequence[Shard], rows: int) -> list[Portion]:
    """Cut input files into portions of so many rows; a file's last one may have fewer."""
    places = [(shard, first) for shard in shards for first in range(0, shard.rows or 0, rows)]
    digits = max(_LEAST_DIGITS, len(str(len(places) - 1)))
    return [
        Portion(
            name=f"{number:0{digits}d}",
            kind=shard.kind,
            parquet=shard.parquet,
            columns=shard.columns,
            rows=min(rows, (shard.rows or 0) - first),
            first=first,
        )
        for number, (shard, first) in enumerate(places)
    ]


def read_portion(portion: Portion) -> pa.Table:
    """Read a portion's rows: other columns first, then caption and url, as img2dataset orders them.

    A column whose name the download needs for its own is called `input_<name>`.
    """
    table = pa.Table.from_batches(_batches(portion))
    ours = {portion.columns[name]: name for name in ("caption", "url") if name in portion.columns}
    taken = {*MEASURED.names, "caption", "url"}
    columns = {}
    for name in sorted(table.column_names, key=lambda name: ours.get(name, "")):
        called = ours.get(name) or (f"input_{name}" if name in taken else name)
        chunks = [_cleaned(chunk, text=name in ours) for chunk in table[name].chunks]
        columns[called] = pa.chunked_array(chunks)
    return pa.table(columns)


def _batches(portion: Portion) -> Iterator[pa.RecordBatch]:
    """Yield a portion's rows, reading no row group in which there are none."""
    first, last = portion.first, portion.first + (portion.rows or 0)
    with pq.ParquetFile(readable(portion.files[0])) as file:
        names = [name for name in file.schema_arrow.names if name != portion.columns.get("image")]
        starts, start = [], 0
        for group in range(file.num_row_groups):
            starts.append(start)
            start += file.metadata.row_group(group).num_rows
        ends = [*starts[1:], start]
        wanted = [g for g in range(len(starts)) if starts[g] < last and ends[g] > first]
        at = starts[wanted[0]]
        for batch in file.iter_batches(row_groups=wanted, columns=names):
            if at < last and at + len(batch) > first:
                offset = max(first - at, 0)
                yield batch.slice(offset, min(last - at, len(batch)) - offset)
            at += len(batch)


def _cleaned(chunk: pa.Array, *, text: bool) -> pa.Array:
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    textual = pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
    return clean_text(chunk)[0] if text or textual else chunk
