"""Bundles: neighbouring small shards, worked on as one task.

A task cuts what it sends by partition, and each piece costs 0.05 to 0.3 ms to write and as much to
read, however few rows are in it (ours, see `cost.toml`).  So small shards share their pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pipelines.inputs import Shard

MOST_ROWS = 250_000
"""Of a bundle: what a worker that is killed has to do again is minutes at most."""
PIECE_ROWS = 1_000
"""Of a bundle, per partition but the first: where there is one, nothing is cut.

Ours: pieces then take 3 % of the time of 30 million rows, `plan` says, and 13 % of 1.8 billion.
And as a partition has 125,000 to 250,000 rows, a corpus that has as many shards has at least 125
bundles, however many workers there are.
"""
ROW_BYTES = 1 << 14
"""Files of more a row hold images, whose time goes with their bytes: a bundle is 4 GiB or so."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Some shards, in their order."""

    shards: tuple[Shard, ...]

    @property
    def name(self) -> str:
        """The first shard's, and how many others there are."""
        first, *others = self.shards
        return f"{first.name} and {len(others)} more" if others else first.name


def bundle_rows(partitions: int, piece_rows: int = PIECE_ROWS) -> int:
    """Return how many rows bundles have that are sent to so many partitions."""
    return max(1, min(MOST_ROWS, piece_rows * (partitions - 1)))


def bundle(shards: Sequence[Shard], rows: int) -> list[Bundle]:
    """Cut shards into bundles of about so many rows; one that has as many is alone.

    A shard goes where its middle row lies: so of shards of one size, one that changes a little
    leaves the bundles as they are.  Where only reading a tar would tell its rows, its bytes do.
    """
    sizes = np.array([max(shard.rows or 0, shard.size_bytes // ROW_BYTES) for shard in shards])
    numbers = iter((np.cumsum(sizes) - sizes / 2) // rows)
    return [Bundle(tuple(some)) for _, some in groupby(shards, lambda _: next(numbers))]
