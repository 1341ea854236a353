"""The readers of blocks: opened when they are first needed, and closed when their block is done.

However many batches are made ahead, so much is in memory as the blocks take that are being read.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from train.index import Unit
from train.order import Block
from train.readers import UnitReader


@dataclass(slots=True)
class _Open:
    """A block that is not done."""

    left: int = 0
    """Samples that were announced and not read yet."""
    readers: dict[int, UnitReader] = field(default_factory=dict)
    """By unit."""

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()


class Shelf:
    """Readers for threads; blocks are announced one after the other."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._open: dict[tuple[int, int], _Open] = {}
        self._latest: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def announce(self, block: Block, count: int) -> None:
        """Tell that so many more samples will be read of a block, and none of blocks before."""
        with self._lock:
            self._latest = block.name
            self._open.setdefault(block.name, _Open()).left += count
            for name in [name for name, one in self._open.items() if not one.left]:
                self._open.pop(name).close()

    def reader(self, block: Block, unit: int) -> UnitReader:
        """Return the reader of a unit of a block that is announced."""
        with self._lock:
            readers = self._open[block.name].readers
            if unit not in readers:
                readers[unit] = UnitReader(self._units[unit])
            return readers[unit]

    def done(self, block: Block) -> None:
        """Tell that a sample of a block was read, or what replaces it."""
        with self._lock:
            one = self._open[block.name]
            one.left -= 1
            if not one.left and block.name != self._latest:
                self._open.pop(block.name).close()

    def close(self) -> None:
        """Close all of them; no thread may read any more."""
        while self._open:
            self._open.popitem()[1].close()
