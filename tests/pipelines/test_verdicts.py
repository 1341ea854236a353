"""Two runs' decisions joined by uid: as a slow join of dictionaries has it, whatever the shards."""

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import verdicts
from pipelines.verdicts import ABSENT, KEPT, Changes, compare_verdicts
from tests.shards import write_parquet

Shards = dict[str, list[tuple[str, str | None]]]


def uid(number: int) -> str:
    return f"{random.Random(number).getrandbits(128):032x}"


def write(output: Path, shards: Shards, digest: str = "") -> dict[str, Any]:
    """Write decisions, and return what of the manifest is read."""
    for name, rows in shards.items():
        columns = {"uid": [u for u, _ in rows], "reason": pa.array([r for _, r in rows], "str")}
        write_parquet(output / "decisions" / f"{name}.parquet", columns)
    told = {"kind": "metadata", "damage": []}
    return {
        "shards": [
            told | {"shard": name, "rows": len(rows), "files": digest or f"{output} {name}"}
            for name, rows in shards.items()
        ]
    }


def plain(a: Shards, b: Shards) -> Counter[tuple[str, str]]:
    """Join by uid, the rows of each in the order of shards and rows."""
    sides: list[dict[str, list[str]]] = []
    for shards in (a, b):
        found: dict[str, list[str]] = defaultdict(list)
        for rows in shards.values():
            for name, reason in rows:
                found[name].append(reason or KEPT)
        sides.append(found)
    counts: Counter[tuple[str, str]] = Counter()
    for name in sides[0] | sides[1]:
        ours, theirs = (side.get(name, []) for side in sides)
        for at in range(max(len(ours), len(theirs))):
            verdict = [side[at] if at < len(side) else ABSENT for side in (ours, theirs)]
            counts[verdict[0], verdict[1]] += 1
    return counts


def some(chance: random.Random, names: str, rows: int) -> Shards:
    reasons = (None, None, "size.small", "text.short")
    return {
        name: [(uid(chance.randrange(60)), chance.choice(reasons)) for _ in range(rows)]
        for name in names
    }


def compare(tmp_path: Path, a: Shards, b: Shards, digest: str = "", workers: int = 1) -> Changes:
    manifests = [write(tmp_path / side, shards, digest) for side, shards in (("a", a), ("b", b))]
    return compare_verdicts(tmp_path / "a", tmp_path / "b", manifests, workers)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("partition_rows", [500_000, 5])
def test_the_join_is_that_of_dictionaries(
    seed: int, partition_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "_PARTITION_ROWS", partition_rows)
    chance = random.Random(seed)
    a, b = some(chance, "pq", 20), some(chance, "qrs", 15)

    found = compare(tmp_path, a, b)

    assert found.counts == plain(a, b)
    assert found.aligned == 0
    for change, examples in found.examples.items():
        assert change[0] != change[1]
        for example in examples:
            for place, side, verdict in ((example.a, a, change[0]), (example.b, b, change[1])):
                assert (place is None) == (verdict == ABSENT)
                if place:
                    shard, row = place
                    assert side[shard][row] == (example.uid, verdict if verdict != KEPT else None)


def test_shards_of_the_same_files_are_compared_row_by_row(tmp_path: Path) -> None:
    a = {"0": [(uid(1), None), (uid(1), "x.y"), (uid(2), None)], "1": [(uid(3), None)]}
    b = {"0": [(uid(1), "x.y"), (uid(1), "x.y"), (uid(2), None)], "1": [(uid(3), "x.z")]}

    found = compare(tmp_path, a, b, digest="same")

    assert found.aligned == 4
    assert found.counts == {
        (KEPT, "x.y"): 1,
        ("x.y", "x.y"): 1,
        (KEPT, KEPT): 1,
        (KEPT, "x.z"): 1,
    }
    assert found.examples[KEPT, "x.z"] == [(uid(3), ("1", 0), ("1", 0))]


def test_of_one_shard_whose_uids_differ_only_that_is_joined(tmp_path: Path) -> None:
    a = {"0": [(uid(1), None)], "1": [(uid(2), None), (uid(3), None)]}
    b = {"0": [(uid(1), None)], "1": [(uid(3), None), (uid(2), "x.y")]}

    found = compare(tmp_path, a, b, digest="same")

    assert found.aligned == 1
    assert found.counts == {(KEPT, KEPT): 2, (KEPT, "x.y"): 1}


def test_processes_find_the_same(tmp_path: Path) -> None:
    chance = random.Random(7)
    a, b = some(chance, "pq", 20), some(chance, "qr", 15)

    assert compare(tmp_path, a, b, workers=2) == compare(tmp_path, a, b)


def test_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    assert compare(tmp_path, {}, {}) == Changes()
    assert compare(tmp_path, {"0": []}, {"1": []}).counts == {}
