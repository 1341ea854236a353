"""Read and write files whole or not at all, with the same bytes for the same content."""

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_REPEATED = ("error", "language", "format", "reason", "threshold", "status")
"""Columns of few values, for which parquet's dictionaries pay."""

_IPC = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` only if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name[:32]}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    )
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; what is no Unicode, of a path, is escaped as in JSON."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, its keys in their own order."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


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
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(first, reader.num_record_batches, step):
            yield reader.get_batch(index)


def join_parts(path: Path, kind: np.dtype[Any], parts: Sequence[Callable[[], Any]]) -> int:
    """Write an .npy file from its parts, with one part in memory at a time; return the rows."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        rows = sum(len(part()) for part in parts)
        header = {"descr": np.lib.format.dtype_to_descr(kind), "shape": (rows,)}
        np.lib.format.write_array_header_1_0(file, header | {"fortran_order": False})
        for part in parts:
            file.write(np.ascontiguousarray(part(), kind).tobytes())
    return rows
