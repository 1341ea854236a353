"""What is known of the samples of a shard: where their images are, and their captions."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from train.mixing import Captions

MAX_CHARS = 4096
"""Of a caption; what comes after is not read.

To cut a megabyte of text into word pieces takes a second (ours, measured), and the longest caption
of Conceptual Captions' validation set has a twentieth of this.
"""
MAX_IMAGE_BYTES = 1 << 28
"""Of an image file in a tar; a larger one is no picture of a web page."""
TEXTS = pa.list_(pa.string())

Row = tuple[str, int, int, list[list[str]]]
"""A sample's key, its `at`, its `size`, and its texts of each kind; see `Group`."""


@dataclass(frozen=True, slots=True)
class Group:
    """Samples that are read together: all of a tar, or those of a parquet's row group."""

    number: int
    """Of the row group."""
    size_bytes: int
    """What the row group's images take in memory; 0 of a tar, whose images are read one by one."""
    places: pa.Table
    """`key`; `at`, the image's byte in the tar or its row in the group; `size`, its bytes in the
    tar; and a list of texts of each kind that is read."""


@dataclass(slots=True)
class Places:
    """The samples of a shard."""

    groups: list[Group] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that are no sample, by reason."""
    damage: list[str] = field(default_factory=list)
    """A sentence for each part of the shard that cannot be read."""

    def add(self, number: int, size_bytes: int, rows: Iterable[Row], captions: Captions) -> None:
        """Add the samples among a group's rows, and count the others."""
        found = list(self._judged(rows))
        several = list(zip(*(texts for *_, texts in found), strict=True)) if found else []
        columns = [pa.array([row[part] for row in found]) for part in range(3)]
        columns += [pa.array(texts, TEXTS) for texts in several]
        schema = schema_of(captions)
        table = pa.table(columns, schema=schema) if found else schema.empty_table()
        self.groups.append(Group(number, size_bytes, table))

    def _judged(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if not any(row[3]):
                self.left_out["caption_missing"] += 1
            elif row[2] > MAX_IMAGE_BYTES:
                self.left_out["image_too_large"] += 1
            else:
                yield row


def schema_of(captions: Captions) -> pa.Schema:
    """Return the columns of `Group.places`."""
    place = [("key", pa.string()), ("at", pa.int64()), ("size", pa.int64())]
    return pa.schema(place + [(f"caption {name}", TEXTS) for name in captions.names])


def clean(value: object) -> list[str]:
    """Return the texts of a value, one or a list: Unicode, not blank, and not endless."""
    texts = []
    for one in value if isinstance(value, list) else (value,):
        text = one[: 4 * MAX_CHARS].decode(errors="replace") if isinstance(one, bytes) else one
        if isinstance(text, str) and (kept := text[:MAX_CHARS].strip()):
            texts.append(kept.encode("utf-8", "replace").decode())  # halves of surrogate pairs
    return texts


def tell(counts: Counter[str]) -> str:
    """Name reasons and how often each applies, the commonest first."""
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common()) or "none"


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values; of a text its bytes, for not every file's are UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return list(column.to_pylist())


def size_of_images(file: pq.ParquetFile, number: int, name: str) -> int:
    """Return what the images of a row group take in memory."""
    group = file.metadata.row_group(number)
    columns = (group.column(place) for place in range(group.num_columns))
    return sum(
        column.total_uncompressed_size
        for column in columns
        if column.path_in_schema.split(".")[0] == name
    )
