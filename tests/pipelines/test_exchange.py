"""Exchange: what is sent arrives once, in its partition, whatever carries it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import exchange
from pipelines.exchange import (
    Run,
    Send,
    Stage,
    channel_path,
    item_name,
    perform,
    perform_native,
)
from pipelines.inputs import Shard
from pipelines.storage import read_ipc
from recaption.files import read_json
from tests.stages import run_in

Sending = tuple[str, list[int]]
"""A channel, and numbers; a number's partition is that of a hash that it is."""

HASHES = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])
SENDINGS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.lists(HASHES, max_size=6)), max_size=4
)
ITEMS = st.dictionaries(st.sampled_from(["0", "1", "deep/0", "deep/er/0"]), SENDINGS)


def shard(name: str) -> Shard:
    return Shard(name=name, kind="metadata", columns={})


def batch(numbers: list[int], note: str = "") -> pa.RecordBatch:
    names = pa.array([f"{note}{number}" for number in numbers], pa.string())
    return pa.record_batch({"number": pa.array(numbers, pa.uint64()), "name": names})


def sender(sendings: dict[str, list[Sending]]) -> Stage:
    def send_all(run: Run, item: Shard, _: Iterator[pa.RecordBatch], send: Send) -> int:
        for at, (channel, numbers) in enumerate(sendings[item.name]):
            part = batch(numbers, f"{item.name} {at} ")
            send(channel, part, run.partition(part["number"].to_numpy()))
        return len(sendings[item.name])

    return Stage("Send", send_all, sends=("a", "b"))


def receiver(channel: str) -> Stage:
    def take(_: Run, __: int, received: Iterator[pa.RecordBatch], ___: Send) -> list[Any]:
        return sorted([row["number"], row["name"]] for part in received for row in part.to_pylist())

    return Stage(f"Take{channel}", take, channel)


@pytest.mark.parametrize("partitions", [1, 2, 8, 1024])
@given(hashes=st.lists(HASHES))
def test_partitions_are_in_the_order_of_the_hashes(partitions: int, hashes: list[int]) -> None:
    run = run_in(Path("out"), partitions)

    found = run.partition(np.array(hashes, np.uint64)).tolist()

    assert found == [number * partitions >> 64 for number in hashes]


@settings(max_examples=50)
@given(sendings=ITEMS, partitions=st.sampled_from([1, 2, 16]))
def test_both_carriers_deliver_every_row_to_its_partition(
    sendings: dict[str, list[Sending]], partitions: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = run_in(tmp_path_factory.mktemp("out"), partitions)
    results, native = {}, []
    for name in sendings:
        results[name] = perform(run, sender(sendings), shard(name))
        native.append(perform_native(run, sender(sendings), shard(name), iter(())))

    expected = {
        (channel, partition): sorted(
            [number, f"{name} {at} {number}"]
            for name, sent in sendings.items()
            for at, (to, numbers) in enumerate(sent)
            for number in numbers
            if to == channel and number * partitions >> 64 == partition
        )
        for channel in "ab"
        for partition in range(partitions)
    }
    by_files, by_beam = {}, {}
    for channel, partition in expected:
        take = receiver(channel)
        by_files[channel, partition] = perform(run, take, partition)
        mine = [p for _, sent in native for at, p in sent[channel] if at == partition]
        by_beam[channel, partition], _ = perform_native(run, take, partition, iter(mine))

    assert by_files == expected
    assert by_beam == expected
    assert results == {name: len(sent) for name, sent in sendings.items()}
    assert [result for result, _ in native] == list(results.values())


def test_rows_of_one_sending_stay_in_order(tmp_path: Path) -> None:
    run = run_in(tmp_path, 2)
    numbers = [i * 7919 % 1000 + (i % 3 == 0) * 2**63 for i in range(1000)]

    perform(run, sender({"0": [("a", numbers)]}), shard("0"))

    got: list[list[int]] = []
    for partition in range(2):
        stage = Stage("Take", lambda *told: [p["number"].to_pylist() for p in told[2]], "a")
        got += perform(run, stage, partition)
    assert got == [[n for n in numbers if n < 2**63], [n for n in numbers if n >= 2**63]]


def pieces_of(run: Run, sent: list[Sending]) -> tuple[list[int], list[int]]:
    """Return the rows of each piece that is sent into channel a, by either carrier."""
    perform(run, sender({"0": sent}), shard("0"))
    _, parcels = perform_native(run, sender({"0": sent}), shard("0"), iter(()))
    [path] = channel_path(run, "a").rglob("*.arrow")
    return [len(piece) for piece in read_ipc(path)], [len(piece) for _, piece in parcels["a"]]


def test_what_a_task_sends_little_by_little_is_cut_once(tmp_path: Path) -> None:
    pieces = pieces_of(run_in(tmp_path, 2), [("a", [1]), ("b", [2]), ("a", []), ("a", [3, 2**63])])

    assert pieces == ([2, 1], [2, 1])


def test_what_waits_to_be_cut_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = batch([1, 2, 3, 4], "0 0 ").nbytes // 2  # of a partition, of two
    monkeypatch.setattr(exchange, "_CUT_BYTES", enough)
    sent = [("a", [1, 2, 3]), ("a", [4]), ("a", [5, 6, 7, 8]), ("a", [9])]

    pieces = pieces_of(run_in(tmp_path, 2), sent)

    assert pieces == ([4, 0, 4, 0, 1, 0], [4, 4, 1])


def test_no_empty_batch_crosses_beam(tmp_path: Path) -> None:
    run = run_in(tmp_path, 16)

    _, parcels = perform_native(
        run, sender({"0": [("a", [1, 2, 2**64 - 1])]}), shard("0"), iter(())
    )

    assert [(at, len(part)) for at, part in parcels["a"]] == [(0, 2), (15, 1)]
    assert parcels["b"] == []


def test_a_finished_task_is_not_run_again(tmp_path: Path) -> None:
    run, seen = run_in(tmp_path), Counter[str]()

    def work(_: Run, item: Shard, __: Iterator[pa.RecordBatch], ___: Send) -> dict[str, Any]:
        seen[item.name] += 1
        return {"rows": [seen[item.name]], "\u72ac": None}

    results = [perform(run, Stage("Work", work), shard(name)) for name in ("0", "a/0", "0", "a/0")]

    assert seen == {"0": 1, "a/0": 1}
    assert results == [{"rows": [1], "\u72ac": None}] * 4
    assert read_json(run.work / "done" / "Work" / "a" / "0.json") == results[0]


def test_a_task_is_finished_in_its_stage_alone(tmp_path: Path) -> None:
    run = run_in(tmp_path)

    results = [perform(run, Stage(name, lambda *_: name), 0) for name in ("One", "Two")]  # noqa: B023

    assert results == ["One", "Two"]


def files(run: Run) -> list[str]:
    names = (p.relative_to(run.work).as_posix() for p in run.work.rglob("*") if p.is_file())
    return sorted(name for name in names if not name.startswith("usage/"))


def test_a_task_that_fails_leaves_no_file_and_can_be_run_again(tmp_path: Path) -> None:
    run, fails = run_in(tmp_path, 2), [True]

    def work(_: Run, __: Shard, ___: Iterator[pa.RecordBatch], send: Send) -> str:
        for channel in "ab":
            send(channel, batch([7]), np.array([1], np.uint16))
        if fails:
            raise ValueError("no more disk")
        return "done"

    stage = Stage("Work", work, sends=("a", "b"))
    with pytest.raises(ValueError, match="no more disk"):
        perform(run, stage, shard("deep/0"))
    left = files(run)
    fails.clear()
    result = perform(run, stage, shard("deep/0"))

    assert (left, result) == ([], "done")
    assert files(run) == [
        "channels/a/Work/deep/0.arrow",
        "channels/b/Work/deep/0.arrow",
        "done/Work/deep/0.json",
    ]
    assert [perform(run, receiver("a"), at) for at in range(2)] == [[], [[7, "7"]]]


def test_a_task_that_died_before_its_marker_is_replaced(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    perform(run, sender({"0": [("a", [1, 2])]}), shard("0"))
    (run.work / "done" / "Send" / "0.json").unlink()
    (run.work / "channels" / "a" / "Send" / ".1.arrow.host-1-2.tmp").write_bytes(b"half")

    perform(run, sender({"0": [("a", [3])]}), shard("0"))

    assert perform(run, receiver("a"), 0) == [[3, "0 0 3"]]


def test_a_channel_to_which_nothing_was_sent_is_empty(tmp_path: Path) -> None:
    run = run_in(tmp_path, 2)
    perform(run, sender({"0": []}), shard("0"))

    assert [perform(run, receiver("a"), at) for at in range(2)] == [[], []]


@pytest.mark.parametrize(
    ("item", "name"), [(0, "00000"), (1023, "01023"), (shard("a/b"), "a/b"), (shard("7"), "7")]
)
def test_items_have_names(item: Shard | int, name: str) -> None:
    assert item_name(item) == name


def test_what_a_run_needs_on_the_way_is_below_its_output(tmp_path: Path) -> None:
    assert run_in(tmp_path).work == tmp_path / "_work"
