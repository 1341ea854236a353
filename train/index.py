"""The data of a run: its shards, and an index of their samples that is made once."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.files import replacing
from recaption.held_out import are_held_out
from recaption.workers import end_with_parent
from train.filtered import list_filtered
from train.mixing import Captions
from train.parquets import list_parquet
from train.places import Group, Places, schema_of, tell
from train.sources import Shard, find
from train.tars import list_tar

VERSION = 1
"""Of an index; another one is made anew."""
_NOTE = b"altmill.index"
_ALONE_BYTES = 1 << 32
"""Shards that are larger together are read by several processes, which take a second to start.

Ours, measured: one process indexes 35,000 samples of a tar in a second.
"""
_log = logging.getLogger("altmill")

_Job = tuple[Shard, Path, str]
"""A shard, its index, and the digest of what that shall hold."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Samples that are read together; see `places.Group`."""

    shard: Shard
    state: tuple[int, int]
    """Size in bytes and time of change, in ns, of the shard's file when it was indexed."""
    index: Path
    """The file with the places of its samples, and which of its row groups has them."""
    index_group: int
    group: int
    rows: int
    size_bytes: int
    held_out: bool


@dataclass(frozen=True, slots=True)
class Data:
    """What there is to learn from."""

    captions: Captions
    units: Sequence[Unit]
    left_out: Counter[str]
    """Rows of the shards that are no samples, by reason."""

    def part(self, *, held_out: bool) -> "Data":
        """Return the samples that are held out, or those that are learnt from."""
        units = [unit for unit in self.units if unit.held_out == held_out]
        return replace(self, units=units)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The number of samples of each unit."""
        return np.array([unit.rows for unit in self.units], np.int64)

    @property
    def num_samples(self) -> int:
        """The number of all samples."""
        return sum(unit.rows for unit in self.units)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell other samples, or another order of them."""
        told = [(unit.shard.name, unit.group, unit.rows, unit.size_bytes) for unit in self.units]
        return hashlib.sha256(json.dumps([told, asdict(self.captions)]).encode()).hexdigest()[:16]


def open_data(
    sources: Sequence[Path],
    captions: Captions,
    index: Path,
    held_out_share: float = 0.0,
    workers: int = 0,
) -> Data:
    """Find what there is to learn from, and index what is not indexed yet.

    Several ranks may do so at once: each begins elsewhere, and leaves out what others have done.

    Args:
        sources: Outputs of filter runs, or folders or files of shards.
        captions: Which captions are read, and of which pairs.
        index: A folder of the run to keep the index in.
        held_out_share: Of the samples, chosen by their keys, in units of their own.
        workers: Processes to index with; 0: see `cores`.

    Raises:
        RecipeError: A source cannot be read, or there is no sample.
    """
    shards = find(sources, index)
    with ThreadPoolExecutor() as threads:  # they wait for storage
        digest = partial(_digest, captions=captions, held_out_share=held_out_share)
        digests = list(threads.map(digest, shards))
        paths = [index / f"{shard.name}.parquet" for shard in shards]
        todo = [
            job
            for job in zip(shards, paths, digests, strict=True)
            if _note(job[1]).get("of") != job[2]
        ]
        index_one = partial(_index_one, captions=captions, held_out_share=held_out_share)
        _index(_from_rank(todo), index_one, workers or cores())
        notes = list(threads.map(_note, paths))
    units = [
        unit
        for shard, path, note in zip(shards, paths, notes, strict=True)
        for unit in _units(shard, path, note)
    ]
    left_out = sum((Counter(note["left_out"]) for note in notes), Counter[str]())
    data = Data(captions, units, left_out)
    _tell(data, sources)
    return data


def _tell(data: Data, sources: Sequence[Path]) -> None:
    if not data.units:
        raise RecipeError(
            f"data {', '.join(map(str, sources))} must hold pairs of an image and a caption of "
            f"{' or '.join(data.captions.names)}, got none; left out: {tell(data.left_out)}"
        )
    _log.info("data: %s pairs; left out: %s", f"{data.num_samples:,}", tell(data.left_out))


def _digest(shard: Shard, captions: Captions, held_out_share: float) -> str:
    """Return what tells whether an index is of these files and captions."""
    first, *others = shard.files
    told = [(str(first), *_state(first))]
    for path in others:
        with suppress(FileNotFoundError):
            told.append((str(path), *identity(path)))
    asked = [asdict(captions), held_out_share]
    wanted = json.dumps([VERSION, told, asked, shard.image, shard.caption])
    return hashlib.sha256(wanted.encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    try:
        return identity(path)
    except FileNotFoundError:
        raise RecipeError(
            f"{path} must still be there, as it was when it was filtered, got nothing; bring it "
            "back"
        ) from None


def identity(path: Path) -> tuple[int, int]:
    """Return a file's size, in bytes, and when it was changed, in ns.

    Raises:
        FileNotFoundError: It is not there.
    """
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _note(path: Path) -> dict[str, Any]:
    """Read what an index says of itself; nothing where there is none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        return {}
    note: dict[str, Any] = json.loads(metadata.get(_NOTE, b"{}"))
    return note


def _index(todo: Sequence[_Job], index_one: Callable[[_Job], None], workers: int) -> None:
    if workers == 1 or sum(shard.path.stat().st_size for shard, *_ in todo) < _ALONE_BYTES:
        for job in todo:
            index_one(job)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        for _ in pool.map(index_one, todo):
            pass


def _from_rank(todo: list[_Job]) -> list[_Job]:
    """Begin where no other rank of torchrun's does."""
    rank, ranks = (
        int(os.environ.get(name, first)) for name, first in (("RANK", 0), ("WORLD_SIZE", 1))
    )
    first = rank * len(todo) // ranks
    return todo[first:] + todo[:first]


def cores() -> int:
    """Return the cores of this process; torchrun says how many processes share a machine's."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _index_one(job: _Job, captions: Captions, held_out_share: float) -> None:
    shard, path, digest = job
    if _note(path).get("of") == digest:  # another rank has done it meanwhile
        return
    state = _state(shard.path)
    places = _list(shard, captions)
    for sentence in places.damage:
        _log.warning("%s: %s", shard.path, sentence)
    groups = [
        (held_out, part)
        for group in places.groups
        for held_out, part in _parts(group, held_out_share)
        if len(part.places)
    ]
    note = {
        "of": digest,
        "state": state,
        "groups": [
            (group.number, len(group.places), group.size_bytes, held_out)
            for held_out, group in groups
        ],
        "left_out": dict(places.left_out),
    }
    _save(path, [group for _, group in groups], captions, note)


def _parts(group: Group, held_out_share: float) -> Iterator[tuple[bool, Group]]:
    """Yield the samples that are learnt from, and those that are held out, which keys decide."""
    keys = group.places["key"].to_pylist()
    chosen = are_held_out(keys, held_out_share)
    for held_out in (False, True):
        places = group.places.filter(pa.array(chosen == held_out))
        yield held_out, replace(group, places=places)


def _list(shard: Shard, captions: Captions) -> Places:
    if shard.run is not None:
        return list_filtered(shard, captions)
    return list_parquet(shard, captions) if shard.image else list_tar(shard, captions)


def _save(path: Path, groups: Iterable[Group], captions: Captions, note: dict[str, Any]) -> None:
    schema = schema_of(captions).with_metadata({_NOTE: json.dumps(note).encode()})
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as sink,
    ):
        for group in groups:
            sink.write_table(group.places.cast(schema), row_group_size=len(group.places))


def _units(shard: Shard, path: Path, note: dict[str, Any]) -> Iterator[Unit]:
    size, changed = note["state"]
    for place, (group, *told) in enumerate(note["groups"]):
        yield Unit(shard, (size, changed), path, place, group, *told)
