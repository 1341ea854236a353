"""Read parts of an object in a store, and tell its errors from those of a damaged file."""

from io import RawIOBase
from pathlib import Path
from typing import Any

from recaption.store_clients import telling
from recaption.stores import StorePath


class Spans(RawIOBase):
    """An object as a file, of which only what is read comes over.

    What is wrong with the store is a `StoreError`, whoever reads: Arrow has an OSError for it where
    it reads by itself, as `stores.readable` has it do, which is faster for many columns.
    """

    def __init__(self, path: StorePath) -> None:
        self._path, self._file = path, path.open_here()

    def __getitem__(self, span: slice) -> bytes:
        with telling(self._path):
            content: bytes = self._file.read_at(span.stop - span.start, span.start)
        return content

    def read(self, size: int = -1) -> bytes:
        with telling(self._path):
            content: bytes = self._file.read(None if size < 0 else size)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        at: int = self._file.seek(offset, whence)
        return at

    def tell(self) -> int:
        at: int = self._file.tell()
        return at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def spans(path: Path) -> Any:
    """Return what Arrow reads a file from, for those who take an OSError for a damaged file."""
    return Spans(path) if isinstance(path, StorePath) else path
