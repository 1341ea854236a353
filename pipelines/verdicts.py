"""Join two runs' decisions by uid, and count the pairs whose verdict changed; in bounded memory.

Shards of the same name and the same input files are compared row by row, once their uids are seen
to be equal.  The rows of all others are cut by uid into partitions, on disk, and each partition is
sorted and merged.  A uid that a run has several times is joined in the order of its rows.
"""

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.decide import decisions_path
from pipelines.duplicates import uid_halves
from pipelines.exchange import cut
from pipelines.local import spread
from pipelines.storage import ipc_writer, read_ipc
from recaption.stores import readable

EXAMPLES = 4
"""Of each change: the pairs with the smallest uids, which are as good as random."""
KEPT, ABSENT = "kept", "absent"
"""What a verdict is called that is no reason: the pair was kept, or is not in that run."""
_PARTITION_ROWS = 500_000

Change = tuple[str, str]
"""A verdict of A, and one of B."""


class Example(NamedTuple):
    """A pair whose verdict changed, and where it is: a shard and a row, of each run that has it."""

    uid: str
    a: tuple[str, int] | None
    b: tuple[str, int] | None


@dataclass(slots=True)
class Changes:
    """How many pairs have each pair of verdicts, and some of those that changed."""

    counts: Counter[Change] = field(default_factory=Counter)
    examples: dict[Change, list[Example]] = field(default_factory=dict)
    aligned: int = 0
    """Rows that were compared without a join."""

    def add(self, other: "Changes") -> None:
        """Add what was found in another part."""
        self.counts.update(other.counts)
        self.aligned += other.aligned
        for change, examples in other.examples.items():
            several = [*self.examples.get(change, []), *examples]
            self.examples[change] = sorted(several, key=_place)[:EXAMPLES]


def _place(example: Example) -> tuple[str, tuple[str, int]]:
    return example.uid, example.a or example.b or ("", 0)


def compare_verdicts(
    a: Path, b: Path, manifests: Sequence[Mapping[str, Any]], workers: int
) -> Changes:
    """Compare two runs' decisions.

    Args:
        a: The output of a run.
        b: That of the other.
        manifests: Theirs.
        workers: Processes.
    """
    known = [{shard["shard"]: shard for shard in manifest["shards"]} for manifest in manifests]
    same = [name for name in known[0] if name in known[1] and _same(known[0][name], known[1][name])]
    total, apart = Changes(), list[str]()
    task = partial(_compare_rows, a, b)
    for name, found in zip(same, spread(task, same, workers, "compares"), strict=True):
        if found is None:
            apart.append(name)
        else:
            total.add(found)
    aligned = set(same) - set(apart)
    left = [[name for name in side if name not in aligned] for side in known]
    rows = sum(
        side[name]["rows"] for side, names in zip(known, left, strict=True) for name in names
    )
    if rows:
        total.add(_join(((a, left[0]), (b, left[1])), rows, workers))
    return total


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two shards were read from equal files, so that their rows are in step."""
    told = operator.itemgetter("kind", "rows", "files", "damage")
    return bool(told(one) == told(other))


def _read(output: Path, shard: str) -> tuple[pa.StringArray, pa.StringArray]:
    """Return a shard's uids and verdicts."""
    path = decisions_path(output, shard)
    table = pq.read_table(readable(path), columns=["uid", "reason"]).combine_chunks()
    return _whole(table["uid"]), _whole(table["reason"]).fill_null(KEPT)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole: pa.Array = column.combine_chunks()
    return whole


# ------------------------------------------------------------------------------------- row by row


def _compare_rows(a: Path, b: Path, shard: str) -> Changes | None:
    """Compare a shard's rows one by one; None if they are not in step."""
    (uids, ours), (others, theirs) = (_read(output, shard) for output in (a, b))
    if not uids.equals(others):
        return None
    found = Changes(aligned=len(uids))
    places = _Places([shard], np.zeros(len(uids), np.int64), np.arange(len(uids)))
    _count(found, _Pairs(uids, (ours, theirs), (places, places)))
    return found


class _Places(NamedTuple):
    """Where rows are: in which shard, of those named, and where in it."""

    names: Sequence[str]
    shards: NDArray[np.int64]
    rows: NDArray[np.int64]

    def of(self, at: int) -> tuple[str, int]:
        return self.names[self.shards[at]], int(self.rows[at])


class _Pairs(NamedTuple):
    """Pairs of two runs, with their verdicts and places in each."""

    uids: pa.StringArray
    verdicts: tuple[pa.StringArray, pa.StringArray]
    places: tuple[_Places, _Places]


def _count(found: Changes, pairs: _Pairs) -> None:
    """Count pairs by their two verdicts, and choose examples of each change."""
    ours, theirs = (side.dictionary_encode() for side in pairs.verdicts)
    width = max(1, len(theirs.dictionary))
    codes = ours.indices.to_numpy().astype(np.int64) * width + theirs.indices.to_numpy()
    for code, rows in zip(*np.unique(codes, return_counts=True), strict=True):
        at, other = divmod(int(code), width)
        change = ours.dictionary[at].as_py(), theirs.dictionary[other].as_py()
        found.counts[change] += int(rows)
        if change[0] != change[1]:
            found.examples[change] = _choose(np.flatnonzero(codes == code), pairs, change)


def _choose(at: NDArray[np.int64], pairs: _Pairs, change: Change) -> list[Example]:
    """Choose the pairs with the smallest uids among some."""
    table = pa.record_batch({"uid": pairs.uids.take(pa.array(at)), "at": at})
    order = [("uid", "ascending"), ("at", "ascending")]
    smallest = table.take(pc.select_k_unstable(table, min(EXAMPLES, len(at)), order)).to_pylist()
    places = [
        None if verdict == ABSENT else side
        for verdict, side in zip(change, pairs.places, strict=True)
    ]
    return [
        Example(row["uid"], *(side and side.of(row["at"]) for side in places)) for row in smallest
    ]


# --------------------------------------------------------------------------------------- by uid

_SENT = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("verdict", pa.string()),
        ("shard", pa.int64()),
        ("row", pa.int64()),
    ]
)


class _Side(NamedTuple):
    """What is joined of a run, and where its rows are put."""

    output: Path
    names: Sequence[str]
    folder: Path


def _join(runs: tuple[tuple[Path, Sequence[str]], ...], rows: int, workers: int) -> Changes:
    """Join shards of two runs by uid."""
    bits = max(0, rows // _PARTITION_ROWS).bit_length()
    total = Changes()
    with TemporaryDirectory(prefix="altmill-diff-") as folder:
        sides = [
            _Side(output, names, Path(folder, str(number)))
            for number, (output, names) in enumerate(runs)
        ]
        tasks = [(side, at) for side in sides for at in range(len(side.names))]
        for _ in spread(partial(_send, bits), tasks, workers, "sorts"):
            pass
        for found in spread(partial(_merge, sides, bits), range(1 << bits), workers, "joins"):
            total.add(found)
    return total


def _send(bits: int, task: tuple[_Side, int]) -> None:
    """Cut a shard's rows by uid into a file with a batch per partition."""
    side, at = task
    uids, verdicts = _read(side.output, side.names[at])
    halves = uid_halves(uids)
    rows = len(uids)
    columns = [halves[:, 0], halves[:, 1], verdicts, np.full(rows, at), np.arange(rows)]
    batch = pa.record_batch(columns, schema=_SENT)
    with ipc_writer(side.folder / f"{at:06d}.arrow", _SENT) as sink:
        for part in cut(batch, _partition(halves[:, 0], bits), 1 << bits):
            sink.write_batch(part)


def _partition(high: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    return (high >> np.uint64(63 - bits) >> np.uint64(1)).astype(np.int64)


def _merge(sides: Sequence[_Side], bits: int, partition: int) -> Changes:
    """Join a partition's rows: of each uid the first of A with the first of B, and so on."""
    tables = [_received(side, bits, partition) for side in sides]
    high, low, nth = (
        np.concatenate(columns) for columns in zip(*map(_numbered, tables), strict=True)
    )
    of_b = np.arange(len(high)) >= len(tables[0])
    order = np.lexsort((of_b, nth, low, high))
    equal = np.ones(max(0, len(order) - 1), bool)
    for column in (high, low, nth):
        equal &= column[order][1:] == column[order][:-1]
    first = np.flatnonzero(equal)
    alone = np.setdiff1d(np.arange(len(order)), np.concatenate([first, first + 1]))
    only = [order[alone][~of_b[order[alone]]], order[alone][of_b[order[alone]]] - len(tables[0])]
    both = order[first], order[first + 1] - len(tables[0])
    found = Changes()
    _count(found, _paired(sides, tables, both))
    for side in (0, 1):
        _count(found, _unpaired(sides, tables, side, only[side]))
    return found


def _received(side: _Side, bits: int, partition: int) -> pa.Table:
    paths = sorted(side.folder.glob("*.arrow"))
    batches = (batch for path in paths for batch in read_ipc(path, 1 << bits, partition))
    table = pa.Table.from_batches(batches, _SENT)
    return table.sort_by([(name, "ascending") for name in ("high", "low", "shard", "row")])


def _numbered(table: pa.Table) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the halves of sorted uids, and how often each has come before."""
    high, low = (table[name].to_numpy() for name in ("high", "low"))
    rows = np.arange(len(high))
    new = np.ones(len(high), bool)
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return high, low, rows - np.maximum.accumulate(np.where(new, rows, 0))


def _paired(
    sides: Sequence[_Side], tables: Sequence[pa.Table], at: tuple[NDArray[Any], NDArray[Any]]
) -> _Pairs:
    a, b = (table.take(pa.array(some)) for table, some in zip(tables, at, strict=True))
    verdicts = _whole(a["verdict"]), _whole(b["verdict"])
    places = _places(sides[0], a), _places(sides[1], b)
    return _Pairs(_uids(a), verdicts, places)


def _unpaired(
    sides: Sequence[_Side], tables: Sequence[pa.Table], side: int, at: NDArray[Any]
) -> _Pairs:
    rows = tables[side].take(pa.array(at))
    there, absent = _whole(rows["verdict"]), pa.array([ABSENT] * len(rows), pa.string())
    places = _places(sides[side], rows)
    return _Pairs(_uids(rows), (absent, there) if side else (there, absent), (places, places))


def _places(side: _Side, rows: pa.Table) -> _Places:
    return _Places(side.names, rows["shard"].to_numpy(), rows["row"].to_numpy())


def _uids(rows: pa.Table) -> pa.StringArray:
    halves = np.stack([rows["high"].to_numpy(), rows["low"].to_numpy()], axis=1)
    digits = halves.astype(">u8").tobytes().hex().encode()
    begins = np.arange(0, len(digits) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(begins), pa.py_buffer(digits))
