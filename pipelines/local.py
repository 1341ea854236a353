"""Run a stage's tasks in processes of this machine, and show how far they are."""

import functools
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

from tqdm import tqdm

from pipelines import images
from pipelines.bundles import Bundle
from pipelines.exchange import Exchange, Stage, channel_path, item_name, perform
from pipelines.inputs import Shard
from recaption.workers import start_worker

_log = logging.getLogger("altmill")
_LOG_EVERY_S = 10.0

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class WorkerError(RuntimeError):
    """A worker process was killed, and again when it was alone."""


def perform_all(run: Exchange, stage: Stage, items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Run a task on every item; yield each item's name and result as they end.

    What the stage read is removed then: no other reads it, and it is the most of a run's disk.
    """
    yield from work_through(stage.name, functools.partial(perform, run, stage), items, run.workers)
    if stage.reads:
        shutil.rmtree(channel_path(run, stage.reads), ignore_errors=True)


def work_through(
    stage: str, work: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Iterator[tuple[str, Any]]:
    """Do some work, which can be pickled, on every item; see `perform_all`."""
    progress = _Progress(stage, items)
    left = {item_name(item): item for item in items}
    try:
        for name, result in _attempt(work, left, workers):
            progress.add(left.pop(name))
            yield name, result
    except BrokenProcessPool:
        _log.warning(
            "a worker process died during %s; the %d items left are run one by one, with each "
            "image in a process of its own",
            stage,
            len(left),
        )
        _pool.cache_clear()
        for name, item in left.items():
            progress.add(item)
            yield name, _alone(stage, work, item)
    progress.close()


def _attempt(
    work: Callable[[Any], Any], items: dict[str, Any], workers: int
) -> Iterator[tuple[str, Any]]:
    shards = any(map(_shards, items.values()))  # may hold hostile images
    if workers == 1 or (len(items) <= 1 and not shards):
        for name, item in list(items.items()):
            yield name, work(item)
        return
    pool = _pool(workers)
    futures = {pool.submit(work, item): name for name, item in items.items()}
    pending: set[Future[Any]] = set(futures)
    try:
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()
    except KeyboardInterrupt:  # an item may take minutes more, and Python would wait for it
        for process in active_children():
            process.terminate()
        raise
    finally:
        for future in pending:  # after an error; at its exit Python would wait for them all
            future.cancel()


def _alone(stage: str, work: Callable[[Any], Any], item: Any) -> Any:
    with ProcessPoolExecutor(1, get_context("spawn"), _start_careful_worker) as pool:
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            raise WorkerError(
                f"{stage} of {item_name(item)} must end, but its process was killed twice; "
                "look for an out-of-memory kill, use fewer --workers or smaller shards, and run "
                "the same command again: it goes on from here"
            ) from None


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), start_worker)


def spread(
    task: Callable[[Item], Answer], items: Sequence[Item], workers: int, doing: str
) -> Iterator[Answer]:
    """Yield what a task makes of each item, in their order; several workers are processes.

    Raises:
        WorkerError: A process was killed.
    """
    if workers == 1:
        yield from map(task, tqdm(items, doing, disable=None))
        return
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
            yield from tqdm(pool.map(task, items), doing, len(items), disable=None)
    except BrokenProcessPool:
        raise WorkerError(
            f"{doing} must come to its end, but a process died at it; look for an out-of-memory "
            "kill, and use fewer --workers"
        ) from None


def _shards(item: Any) -> tuple[Shard, ...]:
    """Return the shards that an item is made of; none of others."""
    if isinstance(item, Bundle):
        return item.shards
    return (item,) if isinstance(item, Shard) else ()


def _start_careful_worker() -> None:
    start_worker()
    images.isolate()


class _Progress:
    """A bar on a terminal, and now and then a line elsewhere."""

    def __init__(self, stage: str, items: Sequence[Any]) -> None:
        self._stage = stage
        shards = [shard for item in items for shard in _shards(item)]
        self._long = bool(shards)
        self._rows = self._long and all(shard.rows is not None for shard in shards)
        self._unit = "rows" if self._rows else "shards" if self._long else "parts"
        self._total, self._done = sum(map(self._size, items)), 0
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total,
                desc=f"{stage:<12}",
                unit=f" {self._unit}",
                unit_scale=True,
                leave=self._long,
            )

    def add(self, item: Any) -> None:
        size = self._size(item)
        self._done += size
        if self._bar is not None:
            self._bar.update(size)
        elif time.monotonic() - self._said >= _LOG_EVERY_S:
            self._said = time.monotonic()
            self._say()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._long or self._said > self._start:
            self._say()

    def _say(self) -> None:
        seconds = time.monotonic() - self._start
        rate = self._done / max(seconds, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        _log.info(
            "%s: %s of %s %s, %s a second, %.0f s left",
            self._stage,
            f"{self._done:,}",
            f"{self._total:,}",
            self._unit,
            f"{rate:,.{0 if rate >= 10 else 2}f}",
            left,
        )

    def _size(self, item: Any) -> int:
        """Count rows, or shards if some does not say how many it has."""
        shards = _shards(item)
        return sum(shard.rows or 0 for shard in shards) if self._rows else len(shards) or 1
