"""Group millions of made hashes whose groups are known, each stage on the scales."""

import os
import shutil
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.duplicate import Duplicate
from filters.recipe import Recipe
from pipelines import near_groups
from pipelines.exchange import Run, Send, Stage
from pipelines.jobs import (
    JOIN_GROUPS,
    JOIN_HASHES,
    LINK,
    MERGE_HASHES,
    SEND_BANDS,
    SORT_BANDS,
)
from pipelines.local import perform_all
from tests.bench.usage import seconds, watched

Words = NDArray[np.uint64]
Places = NDArray[np.int64]

SHARDS = 20
_LARGEST = 12
"""Members of a planted group; the sizes from 2 on are equally frequent."""
_GROUPED = 0.2
"""The share of hashes that are in planted groups."""
_PLACEHOLDERS = 0.1
"""The share of hashes that are one and the same."""
_ALIKE = 31
"""Bits of PDQ."""
_CROWDS = {"": "no crowd", "chunk": "a tenth share 16 bits", "half": "a tenth share 128 bits"}
_GIB = 2**30


def measure_groups(folder: Path, rows: int) -> Iterator[str]:
    """Group hashes with two processes; tell time, memory, and whether the groups are right."""
    for crowd, name in _CROWDS.items():
        made = (folder / crowd / "hashes", rows, _ALIKE, crowd)
        maker = get_context("spawn").Process(target=write_hashes, args=made)
        maker.start()  # a process of its own, whose memory does not count
        maker.join()
        yield f"\nPDQ hashes: {rows:,}, a tenth of them one and the same, {name}; two processes"
        stages: list[str] = []

        def timed(stage: str, work: Callable[[], object], stages: list[str] = stages) -> None:
            before = seconds()
            work()
            used = seconds() - before
            stages.append(f"  {stage:<14}{used.cpu:8,.1f} s of CPU, {used.wall:7,.1f} s")

        before = seconds()
        with watched(os.getpid()) as memory:
            run = group_hashes(folder / crowd / "hashes", folder / crowd / "work", _ALIKE, 2, timed)
        used = seconds() - before
        yield from stages
        yield f"{used.wall:8,.0f} s, {used.cpu:,.0f} s of CPU for groups at a distance of {_ALIKE}"
        yield "the groups are " + ("those planted" if is_exact(run) else "WRONG")
        yield f"{memory.largest / _GIB:8,.2f} GiB of memory, the most of any one process"
        yield f"{memory.together / _GIB:8,.2f} GiB of memory, all together at one moment"
        files = sum(path.stat().st_size for path in run.work.rglob("*") if path.is_file())
        yield f"{files / _GIB:8,.2f} GiB on disk until the groups are known"
        shutil.rmtree(folder / crowd)


def write_hashes(folder: Path, count: int, most: int, crowd: str = "") -> None:
    """Write shards of hashes, `words`, and the group of each one, `group`.

    Half of the planted groups lie around one of their members, half are chains, in which the ends
    are far apart; all links are as long as they may be.

    Args:
        folder: Where they go.
        count: How many.
        most: Bits in which near hashes may differ.
        crowd: A tenth are different hashes that share 16 bits ("chunk"), or half of theirs
            ("half").
    """
    rng = np.random.default_rng(0)
    grouped, same = int(count * _GROUPED), int(count * _PLACEHOLDERS)
    words = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    group = np.arange(count)
    _plant(rng, words[:grouped], group[:grouped], most)
    words[grouped : grouped + same], group[grouped : grouped + same] = words[grouped], grouped
    if crowd:
        shared = words[grouped + same : grouped + 2 * same]
        shared[:, 0] = shared[0, 0] if crowd == "half" else shared[:, 0] >> 16 << 16
        shared[:, 1] = shared[0, 1] if crowd == "half" else shared[:, 1]
    order = rng.permutation(count)
    folder.mkdir(parents=True)
    for shard, part in enumerate(np.array_split(order, SHARDS)):
        np.savez(folder / f"{shard:05d}.npz", words=words[part], group=group[part])


def _plant(rng: np.random.Generator, words: Words, group: Places, most: int) -> None:
    """Make groups: every hash but the first of each differs in `most` bits from an earlier one."""
    sizes = rng.integers(2, _LARGEST + 1, len(words))
    number = np.repeat(np.arange(len(sizes)), sizes)[: len(words)]
    first = np.flatnonzero(np.diff(number, prepend=-1))
    group[:] = first[number]
    place = np.arange(len(words)) - group
    for step in range(1, _LARGEST):
        at = np.flatnonzero(place == step)
        chain = number[at] % 2 == 0
        from_ = np.where(chain, at - 1, group[at])
        bits = np.argsort(rng.random((len(at), 256), np.float32), axis=1)[:, :most]
        flipped = np.zeros((len(at), 256), np.uint8)
        np.put_along_axis(flipped, bits, 1, axis=1)
        words[at] = words[from_] ^ np.packbits(flipped, axis=1, bitorder="little").view(np.uint64)


def send_shard(run: Run, shard: int, _: Iterator[pa.RecordBatch], send: Send) -> dict[str, Any]:
    """Send the hashes of a shard."""
    with np.load(run.source / f"{shard:05d}.npz") as stored:
        words = stored["words"]
    for at in range(0, len(words), 131_072):
        near_groups.send_hashes(run, words[at : at + 131_072], send)
    return {}


def group_hashes(
    source: Path,
    work: Path,
    most: int,
    workers: int,
    timed: Callable[[str, Callable[[], object]], None],
) -> Run:
    """Group hashes by our stages, each within `timed`."""
    shutil.rmtree(work, ignore_errors=True)
    rule = Duplicate(same="near_image", max_distance_inclusive=most)
    run = Run(
        source=source,
        output=work,
        home=work,
        measured=work,
        recipe=Recipe(name="bench", rules=(rule,)),
        partitions=32,
        workers=workers,
    )
    every, once = range(run.partitions), range(1)
    for stage, items in (
        (Stage("SendHashes", send_shard, sends=("hashes",)), range(SHARDS)),
        (MERGE_HASHES, every),
        (JOIN_HASHES, once),
        (SEND_BANDS, every),
        (SORT_BANDS, every),
        (LINK, every),
        (JOIN_GROUPS, once),
    ):
        timed(stage.name, lambda s=stage, i=items: list(perform_all(run, s, list(i))))
    return run


def is_exact(run: Run) -> bool:
    """Say whether the groups are those that were planted."""
    pairs = []
    for shard in range(SHARDS):
        with np.load(run.source / f"{shard:05d}.npz") as stored:
            found = near_groups.groups_of(run, stored["words"])
            pairs.append(np.stack([stored["group"], found], 1))
    distinct = np.unique(np.concatenate(pairs), axis=0)
    planted, found = distinct.T
    return len(distinct) == len(np.unique(planted)) == len(np.unique(found))
