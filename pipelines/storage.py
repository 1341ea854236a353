"""Read and write files whole or not at all, with the same bytes for the same content."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from recaption.files import replacing

_REPEATED = ("error", "language", "format", "reason", "threshold", "status")
"""Columns of few values, for which parquet's dictionaries pay."""

_IPC = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Zstandard parquet file for writing; a written batch is a row group."""
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name in _REPEATED],
        ) as sink,
    ):
        yield sink


@contextmanager
def ipc_writer(path: Path, schema: pa.Schema) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    """Open an Arrow IPC file for writing, from which any one batch can be read alone."""
    with replacing(path) as temporary, pa.ipc.new_file(temporary, schema, options=_IPC) as sink:
        yield sink


def read_ipc(path: Path, step: int = 1, first: int = 0) -> Iterator[pa.RecordBatch]:
    """Read every `step`-th batch of an Arrow IPC file, from the batch `first` on."""
    with pa.memory_map(os.fspath(path)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(first, reader.num_record_batches, step):
            yield reader.get_batch(index)


class Joined(NamedTuple):
    """What is known of a file that was written."""

    rows: int
    xxh3_128: str


def join_parts(path: Path, kind: np.dtype[Any], parts: Sequence[Callable[[], Any]]) -> Joined:
    """Write an .npy file from its parts, with one part in memory at a time."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        rows = sum(len(part()) for part in parts)
        header = {"descr": np.lib.format.dtype_to_descr(kind), "shape": (rows,)}
        begin, digest = io.BytesIO(), xxhash.xxh3_128()
        np.lib.format.write_array_header_1_0(begin, header | {"fortran_order": False})
        contents = (np.ascontiguousarray(part(), kind).tobytes() for part in parts)
        for content in chain([begin.getvalue()], contents):
            file.write(content)
            digest.update(content)
    return Joined(rows, digest.hexdigest())
