"""Count the hosts that images come from, and how many of their rows stay."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.count import hash128
from pipelines.exchange import Run, Send

MOST = 200
"""Hosts that are told of, those with the most rows."""

_SCHEMA = pa.schema([("host", pa.string()), ("rows", pa.int64()), ("kept", pa.int64())])
_HOST = r"^(?:[^?#@]*@)?(?P<host>\[[^\]?#]*\]|[^?#:]+)"
"""A host, between a user and a port: RFC 3986, section 3.2."""
_MOST_BYTES = 253
"""Of a domain name: RFC 1035, section 3.1."""


def send_hosts(run: Run, urls: pa.StringArray, kept: pa.BooleanArray, send: Send) -> None:
    """Send each host of some rows, with how many it has, and how many of them are kept."""
    known = pc.fill_null(pc.match_substring(urls, "://"), False)
    parts = pc.split_pattern(urls.filter(known), "/", max_splits=3)
    rows = {"host": pc.list_element(parts, 2), "kept": pc.cast(kept.filter(known), pa.int64())}
    counted = _summed(pa.table(rows | {"rows": pa.repeat(1, len(parts))}))
    found = pc.struct_field(pc.extract_regex(counted["host"], _HOST), "host")  # of few, as it costs
    names = pc.utf8_rtrim(pc.utf8_lower(found), ".")
    known = pc.and_(
        pc.greater(pc.binary_length(names), 0), pc.less_equal(pc.binary_length(names), _MOST_BYTES)
    )
    counted = _summed(counted.set_column(0, "host", names).filter(known))
    for batch in counted.combine_chunks().to_batches():
        send("hosts", batch, run.partition(hash128(batch["host"])[0]))


def merge_hosts(
    run: Run, partition: int, received: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Add up the rows of each host of a partition; return the largest."""
    del run, partition, send
    counted = _summed(pa.Table.from_batches(list(received), _SCHEMA))
    order = [("rows", "descending"), ("host", "ascending")]
    largest = counted.take(pc.sort_indices(counted, order)[:MOST])
    top = {row["host"]: [row["rows"], row["kept"]] for row in largest.to_pylist()}
    return {"hosts": {"distinct": len(counted), "top": top}}


def add_hosts(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Add up partitions, which have no host in common."""
    every = sorted((one["top"] | other["top"]).items(), key=lambda host: (-host[1][0], host[0]))
    return {"distinct": one["distinct"] + other["distinct"], "top": dict(every[:MOST])}


def _summed(rows: pa.Table) -> pa.Table:
    """Add up the rows of each host, those of no host left out."""
    rows = rows.filter(pc.is_valid(rows["host"]))
    sums = rows.group_by("host", use_threads=False).aggregate([("rows", "sum"), ("kept", "sum")])
    return sums.rename_columns(["host", "rows", "kept"])
