"""Look up n-grams in several processes that map one table, and tell their rates and memory.

Nothing here imports Beam, as no worker of a job does.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from pipelines.lookup import ngram_ranks
from tests.bench.usage import seconds

_LOOKUPS = 1_000_000
"""At once; a batch of 131,072 captions of 11 words has 1.4 million."""
_LOOK_S = 5.0
_SHARE_FOUND = 0.5
"""Of what is looked up; the rest is random."""
_GIB = 2**30


def measure_readers(output: Path, listed: int, readers: int) -> Iterator[str]:
    """Look up n-grams in several processes at once; yield their rates and their memory."""
    context = get_context("spawn")
    with ExitStack() as stack:
        pipes = [context.Pipe() for _ in range(readers)]
        for seed, (_, theirs) in enumerate(pipes):
            process = context.Process(target=_read_table, args=(output, seed, theirs))
            process.start()
            stack.callback(process.join)
        ours = [pipe for pipe, _ in pipes]
        for pipe in ours:
            pipe.recv()
        for pipe in ours:  # all at once
            pipe.send(None)
        told = [pipe.recv() for pipe in ours]
        memory = [_rollup(process_id) for _, _, _, process_id in told]
        for pipe in ours:
            pipe.send(None)
    cpu_s, wall_s, rounds, _ = np.array(told).T
    lookups = rounds * _LOOKUPS
    yield (
        f"{readers} processes at once look up {listed:,}: {np.mean(lookups / cpu_s):,.0f} a second "
        f"of CPU each, {np.sum(lookups / wall_s):,.0f} a second of the clock together"
    )
    for name in ("Rss", "Pss", "Private"):
        sizes = ", ".join(f"{one[name] / _GIB:.2f}" for one in memory)
        yield f"{'':12} {name:<8} {sizes} GiB"


def _read_table(output: Path, seed: int, pipe: Connection) -> None:
    """Look up n-grams, half of them listed, for some seconds."""
    rng = np.random.default_rng(seed)
    table = np.load(output / "tables" / "lookup" / "ngrams.hashes.npy", mmap_mode="r")
    known = int(_LOOKUPS * _SHARE_FOUND)
    wanted = rng.integers(0, 2**64, _LOOKUPS, np.uint64)
    wanted[:known] = table[rng.integers(0, len(table), known)]
    absent = len(table) + 1
    if not (ngram_ranks(output, wanted[:known], absent) < absent).all():
        raise RuntimeError("what is listed must be found, got an n-gram that is not")
    pipe.send(None)
    pipe.recv()
    before, rounds = seconds(), 0
    while (seconds() - before).wall < _LOOK_S:
        wanted[known:] = rng.integers(0, 2**64, _LOOKUPS - known, np.uint64)
        ngram_ranks(output, wanted, absent)
        rounds += 1
    used = seconds() - before
    pipe.send((used.cpu, used.wall, rounds, os.getpid()))
    pipe.recv()


def _rollup(process: int) -> dict[str, int]:
    """Return a process's resident memory, its share of it, and what it has alone, in bytes."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024
    sizes["Private"] = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return sizes
