"""Transforms: a batch crosses Beam alone, and a stage gives the same with either carrier."""

import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bundles import bundle
from pipelines.exchange import Run, Stage
from pipelines.inputs import Shard
from pipelines.statistics import of_each
from pipelines.transforms import AddUp, ArrowIpcCoder, Do
from recaption.files import read_json, write_json
from tests import tasks
from tests.stages import run_in

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("bytes", pa.binary()),
        ("number", pa.uint64()),
        ("score", pa.float64()),
        ("flag", pa.bool_()),
        ("list", pa.list_(pa.uint64())),
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(max_size=3),
            "bytes": st.none() | st.binary(max_size=3),
            "number": st.none() | st.integers(0, 2**64 - 1),
            "score": st.none() | st.floats(allow_nan=False),
            "flag": st.none() | st.booleans(),
            "list": st.none() | st.lists(st.integers(0, 9), max_size=3),
        }
    ),
    max_size=12,
)
Rows = list[dict[str, Any]]


def batch(rows: Rows) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


@given(rows=ROWS, before=ROWS)
def test_a_batch_comes_back_as_it_was(rows: Rows, before: Rows) -> None:
    coder = ArrowIpcCoder()
    part = batch(before + rows).slice(len(before))

    decoded = coder.decode(coder.encode(part))

    assert decoded == part
    assert decoded.schema == SCHEMA
    assert decoded.to_pylist() == rows


def test_a_batch_may_have_no_columns() -> None:
    coder = ArrowIpcCoder()

    assert coder.decode(coder.encode(pa.record_batch({}))) == pa.record_batch({})


def test_a_slice_is_encoded_without_its_parent() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**63, 200_000)
    parent = pa.record_batch({"number": numbers, "text": pa.array(map(str, numbers))})
    part = parent.slice(100_000, 1000)

    encoded = ArrowIpcCoder().encode(part)

    assert len(encoded) < 40 * 1000
    assert len(encoded) < len(pickle.dumps(part)) / 100


def test_beam_takes_the_coder_for_batches() -> None:
    assert isinstance(coders.registry.get_coder(pa.RecordBatch), ArrowIpcCoder)
    assert ArrowIpcCoder().is_deterministic() is False
    assert ArrowIpcCoder().to_type_hint() is pa.RecordBatch


@given(
    parts=st.lists(st.fixed_dictionaries({"rows": st.integers(), "a": st.integers()})),
    cut=st.integers(0, 5),
)
def test_findings_add_up_however_they_are_grouped(parts: list[dict[str, int]], cut: int) -> None:
    add_up = AddUp()
    totals = []
    for some in (parts[:cut], [], parts[cut:]):
        total = add_up.create_accumulator()
        for part in some:
            total = add_up.add_input(total, part)
        totals.append(total)

    found = add_up.extract_output(add_up.merge_accumulators(totals))

    sums = {name: sum(part[name] for part in parts) for name in ("rows", "a")}
    assert found == (sums if parts else {})


def send_numbers(run: Run, item: int, _: Any, send: Any) -> int:
    """Send the numbers below an item to the partitions of their last bit."""
    numbers = pa.record_batch({"number": pa.array(range(item), pa.int64())})
    send("numbers", numbers, np.arange(item) % run.partitions)
    return item


def add_numbers(_: Run, __: int, received: Any, ___: Any) -> int:
    return sum(sum(part["number"].to_pylist()) for part in received)


def count_markers(run: Run, *_: Any) -> list[str]:
    return sorted(path.name for path in run.output.glob("*.told"))


def tell(result: tuple[str, Any], folder: Path) -> tuple[str, Any]:
    write_json(folder / f"{result[0]}.told", result[1])
    return result


@pytest.mark.parametrize("carrier", ["files", "native"])
def test_both_carriers_give_the_same_results(carrier: str, tmp_path: Path) -> None:
    run = run_in(tmp_path, 2, carrier=carrier)
    send = Stage("Send", send_numbers, sends=("numbers",))
    options = PipelineOptions(["--direct_runner_bundle_repeat=1"])

    with beam.Pipeline(FnApiRunner(), options=options) as pipeline:
        sent = pipeline | beam.Create([5, 0, 100_000]) | Do(run, send)  # it takes several pieces
        added = sent["numbers"] | Do(run, Stage("Add", add_numbers, "numbers"))
        told = added["results"] | beam.Map(tell, tmp_path)
        last = pipeline | "One" >> beam.Create([7]) | Do(run, Stage("Last", count_markers), told)
        every = (sent["results"], added["results"], last["results"]) | beam.Flatten()
        _ = every | beam.combiners.ToList() | beam.Map(lambda e: write_json(tmp_path / "all", e))

    assert sorted(read_json(tmp_path / "all"), key=str) == [
        ["00000", 0],
        ["00000", 6 + 2_499_950_000],
        ["00001", 4 + 2_500_000_000],
        ["00005", 5],
        ["00007", ["00000.told", "00001.told"]],
        ["100000", 100_000],
    ]


def fail_once_at_1(run: Run, shard: Shard, received: Any, send: Any) -> dict[str, Any]:
    tried = run.output / "tried"
    if shard.name == "1" and not tried.exists():
        tried.touch()
        raise OSError("the worker is gone")
    return {shard.name: tasks.tell(run, shard, received, send)["isolated"]}


def test_a_bundle_that_ended_a_worker_is_tried_again_with_care(tmp_path: Path) -> None:
    run = run_in(tmp_path, carrier="native")
    shards = [Shard(name=name, kind="webdataset", columns={}, rows=1) for name in "0123"]
    options = PipelineOptions([], pipeline_type_check=False)
    stage = Stage("Try", of_each(fail_once_at_1))

    def attempt() -> None:
        with beam.Pipeline(FnApiRunner(), options=options) as pipeline:
            done = pipeline | beam.Create(bundle(shards, 2)) | Do(run, stage)
            _ = done["results"] | beam.Map(tell, tmp_path)

    with pytest.raises(OSError, match="the worker is gone"):
        attempt()
    attempt()

    told = {path.stem: read_json(path) for path in tmp_path.glob("*.told")}
    assert told == {
        "0 and 1 more": {"0": True, "1": True},
        "2 and 1 more": {"2": False, "3": False},
    }
    assert [path for path in (run.work / "begun").rglob("*") if path.is_file()] == []
