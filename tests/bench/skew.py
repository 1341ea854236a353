"""What skew costs: corpora of one size, an even one and others, each uneven in its own way."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.plan import read_recipe
from recaption.manifest import read_manifest
from tests.bench import corpus
from tests.bench.ours import run_timed_filter
from tests.bench.usage import NOTHING, seconds, watched

_SHARDS = 10
_SHARED = 0.3
"""Of the rows: those with one alt-text."""
_OF_ONE_IMAGE = 0.2
"""Of the rows: those with one image, each with an alt-text of its own; a million of 5 million."""
_LARGER = 100
"""How many times the others one shard is."""
_MIB = 2**20


class _Cost(NamedTuple):
    cpu_s: float
    wall_s: float
    largest: int
    together: int
    kept: int


def measure_skew(folder: Path, rows: int) -> Iterator[str]:
    """Yield what the filter job costs on each corpus, beside the even one; language unknown."""
    yield f"\nSkew: {rows:,} captions, two processes"
    context = multiprocessing.get_context("spawn")
    even: _Cost | None = None
    for name, change in _KINDS.items():
        source = folder / "captions"
        for work, told in ((_write, (source, rows, change)), (_filter, (source, folder / "out"))):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(*told, sender))
            process.start()  # each a process of its own, so that no memory counts twice
            cost = receiver.recv()
            process.join()
        even = even or cost
        yield (
            f"{name:<36} {cost.cpu_s:6.1f} s of CPU ({cost.cpu_s / even.cpu_s:4.2f}), "
            f"{cost.wall_s:6.1f} s ({cost.wall_s / even.wall_s:4.2f}), "
            f"{cost.largest / _MIB:6,.0f} MiB in one process, {cost.together / _MIB:6,.0f} in all, "
            f"{cost.kept:,} kept"
        )
        shutil.rmtree(source)


def _filter(source: Path, output: Path, sender: Connection) -> None:
    with watched(os.getpid()) as memory:
        spent = run_timed_filter(source, output, read_recipe("align"), workers=2, language=False)
    total = sum(spent.values(), NOTHING)
    kept = read_manifest(output)["kept"]
    sender.send(_Cost(total.cpu, total.wall, memory.largest, memory.together, kept))
    sender.close()
    os._exit(0)  # Python would wait for the job's own processes, which wait for this one to end


def _write(folder: Path, rows: int, change: Callable[[Path], None], sender: Connection) -> None:
    corpus.write_captions(folder, rows, -(-rows // _SHARDS))
    change(folder)
    sender.send(seconds())


def _leave(_: Path) -> None:
    """An even corpus is as it is."""


def _share_a_text(folder: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        table = pq.read_table(path)
        chosen = np.random.default_rng([2, number]).random(len(table)) < _SHARED
        captions = pc.if_else(pa.array(chosen), "Click to enlarge the image.", table["caption"])
        pq.write_table(table.set_column(1, "caption", captions), path)


def _share_an_image(folder: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        table = pq.read_table(path)
        chosen = pa.array(np.random.default_rng([3, number]).random(len(table)) < _OF_ONE_IMAGE)
        own = pa.array([f"{number} {row}" for row in range(len(table))])
        captions = pc.binary_join_element_wise(table["caption"], own, " ")
        columns = {
            "url": pc.if_else(chosen, "https://images.example.com/logo.png", table["url"]),
            "caption": pc.if_else(chosen, captions, table["caption"]),
        }
        pq.write_table(pa.table(columns), path)


def _fill_one_shard(folder: Path) -> None:
    paths = sorted(folder.glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    small = len(table) // (_LARGER + len(paths) - 1)
    for number, path in enumerate(paths):
        length = small if number < len(paths) - 1 else None
        pq.write_table(table.slice(number * small, length), path)


_KINDS: dict[str, Callable[[Path], None]] = {
    "even": _leave,
    f"one alt-text on {_SHARED:.0%} of the rows": _share_a_text,
    f"one image on {_OF_ONE_IMAGE:.0%}, all texts its own": _share_an_image,
    f"one shard {_LARGER} times the others": _fill_one_shard,
}
