"""`captions/<shard>.parquet`: candidates, scores and the winner, row for row as in the shard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recaption.files import read_json, replacing, write_json

CANDIDATE = pa.struct(
    [
        ("text", pa.string()),
        ("draw", pa.int32()),
        ("logprob", pa.float32()),
        ("tokens", pa.int32()),
        ("finish", pa.string()),
        ("failure", pa.string()),
        ("captioner", pa.string()),
        ("itc", pa.float32()),
        ("itm", pa.float32()),
    ]
)
"""A synthetic caption.

`logprob` is the sum over its `tokens`; `failure` says why there is no text, or a useless one;
`captioner` begins the digest of the captioner's entry in provenance.json; `itc` is the filter's
cosine of the image and the text, in [-1, 1], and `itm` its probability that they match, in [0, 1].
"""

SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("key", pa.string()),
        ("raw", pa.string()),
        ("kept", pa.bool_()),
        ("asked", pa.bool_()),
        ("candidates", pa.list_(CANDIDATE)),
        ("raw_itc", pa.float32()),
        ("raw_itm", pa.float32()),
        ("chosen", pa.string()),
        ("origin", pa.string()),
        ("winner", pa.int32()),
        ("keeps_raw", pa.bool_()),
        ("keeps_synthetic", pa.bool_()),
    ]
)
"""`raw` is the input's caption, and `kept` says that the filter run kept the pair with it; `asked`,
that a caption was asked for.  `chosen` is the caption that goes with the image now, and null if the
pair is dropped; `origin` is `raw` or `synthetic`, and `winner` the place of the best candidate.
`keeps_raw` and `keeps_synthetic` say which of both may be trained on.
"""

PROVENANCE = "provenance.json"

SCORED_BY, DECIDED_BY = b"altmill.scorer", b"altmill.recipe"
"""Notes in a file's metadata: the scorer's digest, and that of the recipe by which pairs were kept
when captions were chosen."""


def captions_path(output: Path, shard: str) -> Path:
    """Return where a shard's captions are."""
    return output / "captions" / f"{shard}.parquet"


def with_note(table: pa.Table, name: bytes, value: str) -> pa.Table:
    """Add a note to a table's metadata."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), name: value.encode()})


def note_of(schema: pa.Schema, name: bytes) -> str:
    """Return a note; empty if there is none."""
    return (schema.metadata or {}).get(name, b"").decode()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Zstandard parquet file, whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_provenance(output: Path) -> dict[str, Any]:
    """Return what is known of who made captions: `captioners` by digest, `scorer`, `choice`."""
    path = output / "captions" / PROVENANCE
    return read_json(path) if path.exists() else {}


def add_provenance(output: Path, part: Mapping[str, Any]) -> None:
    """Put more into provenance.json; captioners are added to those that are there."""
    stated = read_provenance(output)
    captioners = {**stated.get("captioners", {}), **part.get("captioners", {})}
    stated |= {**part, "captioners": dict(sorted(captioners.items()))}
    write_json(output / "captions" / PROVENANCE, stated)


def winners_of(captions: pa.Table) -> pa.StructArray:
    """Return each row's best candidate, as `CANDIDATE`; null where there is none."""
    lists, winner = captions["candidates"].combine_chunks(), captions["winner"].combine_chunks()
    begins = pc.subtract(lists.offsets[:-1], lists.offsets[0])
    return lists.flatten().take(pc.add(begins, winner))
