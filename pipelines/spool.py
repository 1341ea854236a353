"""What has been fetched of a shard so far, so that a killed download loses next to nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple


class Fetched(NamedTuple):
    """What became of a row's URL."""

    facts: dict[str, Any]
    """The columns that are known only now."""
    image: bytes | None


class _Record(NamedTuple):
    facts: dict[str, Any]
    offset: int
    size: int | None
    """Of the image, in bytes; None: there is none."""


class Spool:
    """Rows in the order in which they came; each is there whole, or not at all.

    A row is a line of JSON, its number and its facts, and the bytes of its image.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read what a killed process left, and cut off the row that it was at."""
        self._file, self._rows = file, dict[int, _Record]()
        whole, size = 0, file.seek(0, 2)
        file.seek(0)
        for line in iter(file.readline, b""):
            offset = file.tell()
            try:
                row, facts, length = json.loads(line)
            except ValueError:  # cut within the line
                break
            end = offset + (length or 0)
            if end > size or not line.endswith(b"\n"):
                break
            self._rows[row] = _Record(facts, offset, length)
            whole = file.seek(end)
        file.truncate(whole)

    def __contains__(self, row: int) -> bool:
        return row in self._rows

    def add(self, row: int, fetched: Fetched) -> None:
        """Append a row."""
        facts, image = fetched
        length = None if image is None else len(image)
        line = json.dumps([row, facts, length]).encode() + b"\n"
        offset = self._file.seek(0, 2) + len(line)
        self._file.write(line + (image or b""))
        self._file.flush()
        self._rows[row] = _Record(facts, offset, length)

    def read(self, row: int) -> Fetched:
        """Return a row."""
        facts, offset, length = self._rows[row]
        if length is None:
            return Fetched(facts, None)
        self._file.seek(offset)
        return Fetched(facts, self._file.read(length))


@contextmanager
def spooling(path: Path) -> Iterator[Spool]:
    """Open a spool, a new one or what a killed process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as file:
        yield Spool(file)
