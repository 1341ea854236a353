"""Read samples of shards whose places are indexed, in any order and in any thread."""

import os
import threading
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from train.images import BadSampleError
from train.index import Unit


class Sample(NamedTuple):
    """An image and its captions."""

    key: str
    image: bytes
    texts: list[list[str]]
    """Of each kind that is read."""


class _Images(Protocol):
    """The images of a unit."""

    def read(self, at: int, size: int) -> bytes | None:
        """Return an image, or as much of it as there is."""

    def close(self) -> None:
        """Give back what is held."""


class UnitReader:
    """The samples of a unit; its shard is opened, and checked to be as indexed, when it must be."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._lock = threading.Lock()
        self._opened: _Images | BadSampleError | None = None
        self._columns: list[pa.Array] = []

    def read(self, row: int) -> Sample:
        """Read a sample.

        Raises:
            BadSampleError: `shard_missing` or `shard_changed` since it was indexed,
                `shard_unreadable`, or `image_missing`.
        """
        images = self._open()
        key, at, size, *texts = (column[row].as_py() for column in self._columns)
        try:
            image = images.read(at, size)
        except OSError:
            raise BadSampleError("shard_unreadable") from None
        if not image or len(image) < size:
            raise BadSampleError("image_missing")
        return Sample(key, image, texts)

    def close(self) -> None:
        """Close the shard."""
        if self._opened is not None and not isinstance(self._opened, BadSampleError):
            self._opened.close()

    def _open(self) -> _Images:
        with self._lock:
            if self._opened is None:
                self._opened = self._try_to_open()
        if isinstance(self._opened, BadSampleError):
            raise BadSampleError(*self._opened.args)
        return self._opened

    def _try_to_open(self) -> "_Images | BadSampleError":
        with pq.ParquetFile(self._unit.index) as file:
            table = file.read_row_group(self._unit.index_group, use_threads=False)
        self._columns = [column.combine_chunks() for column in table.columns]
        try:
            return _RowGroup(self._unit) if self._unit.shard.image else _Tar(self._unit)
        except FileNotFoundError:
            return BadSampleError("shard_missing")
        except (OSError, pa.ArrowException):
            return BadSampleError("shard_unreadable")
        except BadSampleError as bad:
            return bad


def _check(state: os.stat_result, unit: Unit) -> None:
    if (state.st_size, state.st_mtime_ns) != unit.state:
        raise BadSampleError("shard_changed")


class _Tar:
    """Reads, and does not map: a mapped file that is cut short would end the process."""

    def __init__(self, unit: Unit) -> None:
        self._file = os.open(unit.shard.path, os.O_RDONLY)
        try:
            _check(os.fstat(self._file), unit)
        except BadSampleError:
            self.close()
            raise

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self._file, size, at)

    def close(self) -> None:
        os.close(self._file)


class _RowGroup:
    def __init__(self, unit: Unit) -> None:
        path, image = unit.shard.path, unit.shard.image
        _check(path.stat(), unit)
        with pq.ParquetFile(path) as file:
            self._column: Any = file.read_row_group(unit.group, [image], use_threads=False)[0]

    def read(self, at: int, _: int) -> bytes | None:
        value = self._column[at].as_py()
        return value.get("bytes") if isinstance(value, dict) else value

    def close(self) -> None:
        self._column = None
