"""The order in which samples are learnt from: a matter of seed, epoch and place alone.

An epoch goes through units, tars and row groups, in an order of its own.  Some at a time, they are
a block, all of whose rows are mixed.  Epochs follow each other without a seam, and every batch of
all ranks together is the next so many samples: none is lost or read twice in an epoch, however
uneven units are and however many ranks share them, and where a run goes on is a single number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Units whose rows are mixed."""

    epoch: int
    number: int
    units: Places
    ends: Places
    """Where each unit's rows end, one after the other."""
    order: Places
    """The rows, mixed."""

    def __len__(self) -> int:
        return len(self.order)

    @property
    def name(self) -> tuple[int, int]:
        """What no other block is called."""
        return self.epoch, self.number

    def place(self, position: int) -> tuple[int, int]:
        """Return the unit of what is at a position, and its row there."""
        row = int(self.order[position])
        which = int(np.searchsorted(self.ends, row, "right"))
        return int(self.units[which]), row - (int(self.ends[which - 1]) if which else 0)


class Order:
    """The order of the samples of all epochs."""

    def __init__(
        self, rows: Places, sizes: Places, seed: int, *, max_units: int, max_bytes: int
    ) -> None:
        """Take what there is.

        Args:
            rows: The number of samples of each unit.
            sizes: What each unit takes in memory, in bytes.
            seed: Decides on the order.
            max_units: Of a block.
            max_bytes: Of a block's units together; one that is larger is a block by itself.
        """
        self._rows, self._sizes, self._seed = rows, sizes, seed
        self._max_units, self._max_bytes = max_units, max_bytes
        self.num_samples = int(rows.sum())
        self._epoch = lru_cache(2)(self._blocks_of)
        self._block = lru_cache(4)(self._block_of)

    def samples(self, first: int, count: int) -> Iterator[tuple[Block, range]]:
        """Yield where the samples from the `first` on are, of all epochs in a row.

        Yields:
            Blocks, and positions in them.
        """
        while count:
            epoch, position = divmod(first, self.num_samples)
            ends = self._epoch(epoch)[1]
            number = int(np.searchsorted(ends, position, "right"))
            start = position - (int(ends[number - 1]) if number else 0)
            block = self._block(epoch, number)
            taken = min(count, len(block) - start)
            yield block, range(start, start + taken)
            first, count = first + taken, count - taken

    def _blocks_of(self, epoch: int) -> tuple[list[Places], Places]:
        """Return the units of each block of an epoch, and where blocks end."""
        blocks: list[list[int]] = []
        size = 0
        for unit in self._generator(epoch, 0).permutation(len(self._rows)).tolist():
            size += int(self._sizes[unit])
            if not blocks or len(blocks[-1]) == self._max_units or size > self._max_bytes:
                blocks.append([])
                size = int(self._sizes[unit])
            blocks[-1].append(unit)
        units = [np.array(block) for block in blocks]
        return units, np.cumsum([self._rows[some].sum() for some in units])

    def _block_of(self, epoch: int, number: int) -> Block:
        units = self._epoch(epoch)[0][number]
        ends = np.cumsum(self._rows[units])
        order = self._generator(epoch, number + 1).permutation(int(ends[-1]))
        return Block(epoch, number, units, ends, order)

    def _generator(self, epoch: int, part: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self._seed, epoch, part]))
