"""What has been fetched of a shard so far, so that a killed download loses next to nothing."""

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipelines.rows import mapped, read_json
from pipelines.shards import add_sample
from pipelines.tars import read_members, samples

_BLOCK = 512
IMAGE = "jpg"
"""Whatever an image's format: what img2dataset calls them, and one name for all of a set."""


class Fetched(NamedTuple):
    """What became of a row's URL."""

    facts: dict[str, Any]
    """The columns that are known only now."""
    image: bytes | None


class Spool:
    """Rows in the order in which they came; each is there whole, or not at all.

    It is a tar that is never closed, as that would write its end.
    """

    def __init__(self, file: BinaryIO, rows: set[int]) -> None:
        self._file, self._tar = file, tarfile.open(fileobj=file, mode="w")  # noqa: SIM115
        self.rows = rows
        """What is there."""

    def add(self, row: int, fetched: Fetched) -> None:
        """Append a row."""
        members = {} if fetched.image is None else {IMAGE: fetched.image}
        told = json.dumps(fetched.facts).encode()
        add_sample(self._tar, str(row), members | {"json": told})  # the json last: it is the seal
        self._file.flush()
        self.rows.add(row)


@contextmanager
def spooling(path: Path) -> Iterator[Spool]:
    """Open a spool, a new one or what a killed process left, without the row that it was at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with mapped(path) as data:
        whole = [sample for sample in samples(read_members(data, [])) if "json" in sample.members]
        ends = [sample.members["json"].offset + sample.members["json"].size for sample in whole]
        end = -(-max(ends, default=0) // _BLOCK) * _BLOCK
    with path.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        yield Spool(file, {int(sample.key) for sample in whole})


@contextmanager
def read_spool(path: Path) -> Iterator[Callable[[int], Fetched]]:
    """Yield what returns a row of a spool."""
    with mapped(path) as data:
        found = {int(sample.key): sample for sample in samples(read_members(data, []))}

        def read(row: int) -> Fetched:
            image = found[row].members.get(IMAGE)
            content = image and bytes(data[image.offset : image.offset + image.size])
            return Fetched(read_json(data, found[row]), content)

        yield read
