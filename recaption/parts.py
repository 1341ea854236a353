"""Keep what is done of a shard, so that a killed run goes on from there."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recaption.captions import write_table
from recaption.files import remove

GROUP = 512
"""Images between two saves: what a killed run loses at most."""

Places = NDArray[np.int64]


class Parts:
    """Groups of a shard's rows that are done, each in a file of its own until all are."""

    def __init__(self, output: Path, stage: str, shard: str) -> None:
        self._folder = output / "captions" / "_parts" / stage / shard

    def work(
        self, at: Places, maker: str, work: Callable[[Places], pa.Table], schema: pa.Schema
    ) -> pa.Table:
        """Do what is not done yet, group by group; return all of it, a row for each place."""
        groups = [at[first : first + GROUP] for first in range(0, len(at), GROUP)]
        done = [self._do(number, some, maker, work) for number, some in enumerate(groups)]
        return pa.concat_tables([schema.empty_table(), *done]).combine_chunks()

    def _do(
        self, number: int, some: Places, maker: str, work: Callable[[Places], pa.Table]
    ) -> pa.Table:
        path = self._folder / f"{number:06d}.parquet"
        told = {b"of": f"{maker} {hashlib.sha256(some.tobytes()).hexdigest()}".encode()}
        if path.exists() and (pq.read_schema(path).metadata or {}).get(b"of") == told[b"of"]:
            return pq.read_table(path).replace_schema_metadata(None)
        table = work(some)
        write_table(path, table.replace_schema_metadata(told))
        return table

    def remove(self) -> None:
        """Remove the files."""
        remove(self._folder)
