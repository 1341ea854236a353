"""Bundles: small shards share a task, whatever happens to it."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import images
from pipelines.bundles import Bundle, bundle, bundle_rows
from pipelines.exchange import Run, Send, Stage
from pipelines.inputs import InputError, Shard
from pipelines.local import perform_all
from pipelines.plan import Plan, plan_filter, read_recipe
from pipelines.run import run_filter
from pipelines.statistics import of_each
from pipelines.unfinished import Wish
from recaption.files import read_json
from tests.outputs import files_of
from tests.stages import run_in

SIZES = st.lists(st.none() | st.integers(0, 3000), max_size=40)


def shards_of(rows: list[int | None], size_bytes: int = 0) -> list[Shard]:
    return [
        Shard(name=f"{at:05d}", kind="webdataset", columns={}, rows=n, size_bytes=size_bytes)
        for at, n in enumerate(rows)
    ]


def named(bundles: list[Bundle]) -> list[list[int]]:
    """Return the numbers of each bundle's shards."""
    return [[int(shard.name) for shard in one.shards] for one in bundles]


@pytest.mark.parametrize(
    ("rows", "together"),
    [
        ([10, 10, 10, 10, 10], [[0, 1], [2, 3], [4]]),
        ([11, 9, 10, 11, 9], [[0, 1], [2, 3], [4]]),  # it is as with those of one size
        ([20, 20, 19], [[0], [1], [2]]),
        ([5, 500, 5, 5], [[0], [1], [2, 3]]),
        ([0, 0, 0], [[0, 1, 2]]),
        ([], []),
    ],
)
def test_small_neighbours_are_together_and_large_shards_alone(
    rows: list[int | None], together: list[list[int]]
) -> None:
    assert named(bundle(shards_of(rows), 20)) == together


@given(rows=SIZES, most=st.integers(1, 2000))
def test_bundles_hold_every_shard_in_order_and_no_more_than_they_should(
    rows: list[int | None], most: int
) -> None:
    shards = shards_of(rows)

    bundles = bundle(shards, most)

    assert [shard for one in bundles for shard in one.shards] == shards
    assert len({one.name for one in bundles}) == len(bundles)
    for one in bundles:
        sizes = [shard.rows or 0 for shard in one.shards]
        assert sum(sizes) - sizes[0] / 2 - sizes[-1] / 2 < most


@pytest.mark.parametrize("rows", [None, 10])
def test_files_with_images_are_bundled_by_their_bytes(rows: int | None) -> None:
    assert named(bundle(shards_of([rows] * 3, 50 * 2**14), 100)) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("partitions", "rows"), [(1, 1), (2, 1000), (8, 7000), (256, 250_000), (1024, 250_000)]
)
def test_bundles_are_as_large_as_their_pieces_need(partitions: int, rows: int) -> None:
    assert bundle_rows(partitions) == rows


def test_a_bundle_is_named_after_its_first_shard() -> None:
    assert [one.name for one in bundle(shards_of([1, 1, 1, 3]), 3)] == ["00000 and 2 more", "00003"]


def test_what_a_bundle_finds_is_what_its_shards_find_together() -> None:
    def find(_: Any, shard: Shard, *__: Any) -> dict[str, Any]:
        return {"rows": shard.rows, "shards": {shard.name: {"rows": shard.rows}}}

    found = of_each(find)(None, Bundle((*shards_of([3, 4]),)), iter(()), print)

    assert found == {"rows": 7, "shards": {"00000": {"rows": 3}, "00001": {"rows": 4}}}


# ------------------------------------------------------------------------------ in the run of a job


def die_once(
    run: Run, shard: Shard, _: Iterator[pa.RecordBatch], __: Send
) -> dict[str, dict[str, bool]]:
    """Kill the process at shard 1, but not a second time; say whether images are isolated."""
    tried = run.output / "tried"
    if shard.name == "00001" and not tried.exists():
        tried.touch()
        signal.raise_signal(signal.SIGKILL)
    return {"isolated": {shard.name: images._isolated}}  # noqa: SLF001


def test_a_bundle_that_killed_its_worker_is_tried_again_with_care(tmp_path: Path) -> None:
    run, bundles = run_in(tmp_path, workers=2), bundle(shards_of([1, 1]), 2)

    [(name, found)] = perform_all(run, Stage("Die", of_each(die_once)), bundles)

    assert name == "00000 and 1 more"
    assert found == {"isolated": {"00000": True, "00001": True}}


def write_shard(path: Path, rows: int = 20) -> None:
    """Write metadata, of which much is in other shards, too."""
    number = int(path.stem)
    table = {
        "url": [f"http://{row % 3}.org/{(row * 7 + number) % 50}" for row in range(rows)],
        "caption": [f"a red {'shoe ' * (row % 4)}{row % 9}" for row in range(rows)],
    }
    pq.write_table(pa.table(table), path)
    os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for at in range(6):
        write_shard(folder / f"{at:05d}.parquet")
    return folder


def planned(source: Path, output: Path, workers: int = 1) -> Plan:
    """Plan a run with three bundles of two shards each."""
    recipe = read_recipe("align", ["rules.duplicate.same=pair"])
    plan = plan_filter(str(source), output, recipe, workers=workers)
    plan = replace(plan, run=replace(plan.run, partitions=4), piece_rows=14)
    assert named(plan.bundles) == [[0, 1], [2, 3], [4, 5]]
    return plan


def stop_at_4(source: Path, output: Path) -> None:
    """Begin a run, and end it after two bundles."""
    plan, shard = planned(source, output), source / "00004.parquet"
    shard.unlink()
    with pytest.raises(InputError) as error:
        run_filter(plan)
    assert str(error.value).startswith(f"{shard} must stay as it was when the run began, ")
    done = output / "_work" / "done" / "Read"
    assert sorted(path.stem for path in done.iterdir()) == ["00000 and 1 more", "00002 and 1 more"]
    write_shard(shard)


def check(source: Path, output: Path, reads: int) -> None:
    """Check that a run read so many bundles, and left what one does that was not disturbed."""
    run_filter(planned(source, output.with_name("undisturbed")))
    assert read_json(output / "run.json")["stages"]["Read"]["tasks"] == reads
    undisturbed = files_of(output.with_name("undisturbed"))
    assert len(undisturbed) > 12
    assert files_of(output) == undisturbed


def test_a_run_that_stopped_goes_on_with_other_workers_and_reads_no_bundle_twice(
    source: Path, tmp_path: Path
) -> None:
    stop_at_4(source, tmp_path / "out")

    run_filter(planned(source, tmp_path / "out", workers=2))

    check(source, tmp_path / "out", reads=3)


def test_a_shard_that_was_mended_is_read_again_with_its_bundle_alone(
    source: Path, tmp_path: Path
) -> None:
    write_shard(source / "00003.parquet", rows=19)
    stop_at_4(source, tmp_path / "out")
    write_shard(source / "00003.parquet")
    plan = planned(source, tmp_path / "out")
    with pytest.raises(InputError, match="got other files of shard 00003; add --retry-failed"):
        run_filter(plan)

    run_filter(plan, wish=Wish(retry_failed=True))

    check(source, tmp_path / "out", reads=4)
