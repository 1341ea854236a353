"""Read samples of shards whose places are indexed, in any order and in any thread."""

import os
import threading
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from recaption.spans import Spans, spans
from recaption.stores import StorePath, lend
from train.images import BadSampleError
from train.index import Unit, identity


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

    def __init__(self, unit: Unit, *, few: bool = False) -> None:
        """Take a unit; of a tar in an object store, `few` samples come over alone."""
        self._unit, self._few = unit, few
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
            return self._images()
        except FileNotFoundError:
            return BadSampleError("shard_missing")
        except (OSError, pa.ArrowException):
            return BadSampleError("shard_unreadable")
        except BadSampleError as bad:
            return bad

    def _images(self) -> _Images:
        path = self._unit.shard.path
        if self._unit.shard.image:
            return _RowGroup(self._unit)
        if self._few and isinstance(path, StorePath):
            return _Far(path, self._unit)
        return _Tar(self._unit)


def _check(unit: Unit) -> None:
    """Check that a shard is the one that was indexed."""
    if identity(unit.shard.path) != unit.state:
        raise BadSampleError("shard_changed")


class _Tar:
    """Reads, and does not map: a mapped file that is cut short would end the process."""

    def __init__(self, unit: Unit) -> None:
        self._file = lend(unit.shard.path)
        try:
            _check(unit)
        except BaseException:
            self.close()
            raise

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, at)

    def close(self) -> None:
        self._file.close()


class _Far:
    """Reads samples of a tar in an object store, each by itself."""

    def __init__(self, path: StorePath, unit: Unit) -> None:
        self._data = Spans(path)
        _check(unit)

    def read(self, at: int, size: int) -> bytes:
        return self._data[at : at + size]

    def close(self) -> None:
        self._data.close()


class _RowGroup:
    def __init__(self, unit: Unit) -> None:
        _check(unit)  # first: one that was cut short has no footer
        with pq.ParquetFile(spans(unit.shard.path)) as file:
            table = file.read_row_group(unit.group, [unit.shard.image], use_threads=False)
        self._column: Any = table[0]

    def read(self, at: int, _: int) -> bytes | None:
        value = self._column[at].as_py()
        return value.get("bytes") if isinstance(value, dict) else value

    def close(self) -> None:
        self._column = None
