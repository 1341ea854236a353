"""What a run's stages cost is in run.json, and nowhere else."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import usage
from pipelines.commands import main
from pipelines.exchange import Run, Send, Stage, perform
from pipelines.local import perform_all
from pipelines.sample import write_sample
from recaption.files import read_json
from tests.stages import run_in

MEBIBYTE = 2**20

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="only Linux counts bytes and memory per process"
)


def test_a_task_is_noted_with_what_it_used(tmp_path: Path) -> None:
    with usage.watched(tmp_path, "Work") as used:
        used["sent_bytes"] = 7
        (tmp_path / "file").write_bytes(b"\1" * MEBIBYTE)
        held = b"\1" * (200 * MEBIBYTE)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    base = usage.peak() - len(held)
    del held
    with usage.watched(tmp_path, "Work"):
        pass

    found = usage.add_up(tmp_path, own_cpu_s=10.0)

    work, rest = found["Work"], found[usage.REST]
    assert (work["tasks"], work["sent_bytes"]) == (2, 7)
    assert 0.2 <= work["cpu_s"] < 1.0
    assert MEBIBYTE <= work["written_bytes"] < MEBIBYTE + 10_000
    assert work["peak_bytes"] >= 200 * MEBIBYTE
    assert base > 0
    assert rest["cpu_s"] == pytest.approx(10.0 - work["cpu_s"], abs=0.01)


def test_the_peak_of_a_task_is_its_own(tmp_path: Path) -> None:
    with usage.watched(tmp_path, "Large"):
        held = b"\1" * (200 * MEBIBYTE)
        del held
    with usage.watched(tmp_path, "Small"):
        pass

    found = usage.add_up(tmp_path, 0.0)

    assert found["Large"]["peak_bytes"] - found["Small"]["peak_bytes"] > 150 * MEBIBYTE


def test_what_other_processes_noted_is_added_and_not_taken_for_our_own(tmp_path: Path) -> None:
    folder = tmp_path / "usage"
    folder.mkdir()
    line = '["Work", {"tasks": 1, "cpu_s": 2.0, "peak_bytes": %d}]\n'
    (folder / f"{os.getpid()}.jsonl").write_text(line % 5)
    (folder / "other.jsonl").write_text(line % 9 + line % 3)

    found = usage.add_up(tmp_path, own_cpu_s=3.0)

    assert found["Work"] == {"tasks": 3, "cpu_s": 6.0, "peak_bytes": 9}
    assert found[usage.REST]["cpu_s"] == 1.0


def test_what_a_task_sent_is_the_size_of_its_files(tmp_path: Path) -> None:
    run = run_in(tmp_path, partitions=2)

    perform(run, Stage("Send", _send, sends=("numbers",)), 0)

    (file,) = (run.work / "channels" / "numbers").rglob("*.arrow")
    assert usage.add_up(run.work, 0.0)["Send"]["sent_bytes"] == file.stat().st_size > 0


def test_a_channel_is_removed_once_all_of_it_was_read(tmp_path: Path) -> None:
    run = run_in(tmp_path, partitions=2)
    send, take = Stage("Send", _send, sends=("numbers",)), Stage("Take", _take, "numbers")

    sent = dict(perform_all(run, send, [0, 1]))
    there = (run.work / "channels" / "numbers").exists()
    taken = dict(perform_all(run, take, [0, 1]))
    again = dict(perform_all(run, take, [0, 1]))

    assert (sent, there) == ({"00000": 2, "00001": 2}, True)
    assert taken == again == {"00000": 2, "00001": 2}
    assert not (run.work / "channels" / "numbers").exists()


def test_run_json_tells_of_every_stage(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", rows=200, seed=0)
    paths = ["--input", str(tmp_path / "sample"), "--output", str(tmp_path / "out")]

    code = main(["filter", *paths, "--workers", "2"])

    stages = read_json(tmp_path / "out" / "run.json")["stages"]
    assert code == 0
    assert {"Read", "MergeNgrams", "Measure", "Decide", usage.REST} <= set(stages)
    assert stages["Read"]["cpu_s"] > 0.0
    assert stages["Read"]["written_bytes"] >= stages["Read"]["sent_bytes"] > 0
    assert not (tmp_path / "out" / "_work").exists()


def _send(run: Run, _: int, __: Iterator[pa.RecordBatch], send: Send) -> int:
    batch = pa.record_batch({"number": pa.array([0, 2**63], pa.uint64())})
    send("numbers", batch, run.partition(batch["number"].to_numpy()))
    return len(batch)


def _take(_: Run, __: int, received: Iterator[pa.RecordBatch], ___: Send) -> int:
    return sum(map(len, received))
