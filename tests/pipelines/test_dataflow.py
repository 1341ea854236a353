"""Dataflow, as far as it can be seen offline: the job's description, and what it does when run."""

import base64
import bz2
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.dataflow_v1beta3", reason="needs the extra dataflow")

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines import captioning, jobs
from pipelines.commands import main
from pipelines.dataflow import hints_of, steps_of
from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter, submit
from pipelines.sample import write_sample
from tests.captioners import Echo, Lengths
from tests.outputs import files_of

IMAGE = "europe-docker.pkg.dev/some-project/some-repository/altmill:0.1.0"
OPTIONS = [
    "--runner=DataflowRunner",
    "--dry_run=True",
    "--project=some-project",
    "--region=europe-west4",
    "--temp_location=gs://some-bucket/temp",
    "--staging_location=gs://some-bucket/staging",
    f"--sdk_container_image={IMAGE}",
]
GPU = "type:nvidia-l4;count:1;install-nvidia-driver"
STEPS = [
    *("Shards", "Read", "CountPairs", "CountTexts", "CountImages", "RankNgrams", "MergeRanks"),
    *("Once", "WriteLookups", "Measure", "RankTexts", "RankImages", "FindDuplicates", "Decide"),
    *("MergeSubset", "MergeHosts", "SendCaptions", "MergeCaptions", "WriteCaptions"),
    *("Materialise", "AllFacts", "Values", "AddUp", "Write"),
]
EVERY_STEP = (
    *("rules.duplicate.same=near_image", "rules.duplicate.merge_captions=true"),
    "materialise=true",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small corpus in `in`, and one of the same shards' number, twice."""
    folder = tmp_path_factory.mktemp("dataflow")
    write_sample(folder / "in", rows=100, seed=3)
    write_sample(folder / "twice", rows=200, seed=3)
    return folder


def planned(work: Path, name: str = "in", carrier: str = "native") -> Any:
    recipe = read_recipe("align", EVERY_STEP)
    output = work / f"{name}-{carrier}"
    return plan_filter(str(work / name), output, recipe, workers=1, carrier=carrier)


def graph_of(work: Path, name: str = "in") -> Any:
    """Return the pipeline that Dataflow would get of a filter job."""
    plan = planned(work, name)
    job = submit(plan.bundles, partial(jobs.filter_corpus, run=plan.run), OPTIONS).job
    return job.proto_pipeline


@pytest.fixture(scope="module")
def graph(work: Path) -> Any:
    return graph_of(work)


def run_here(graph: Any) -> Any:
    """Run a pipeline that Dataflow would get, on Beam's local runner."""
    here = beam_runner_api_pb2.Pipeline()
    here.CopyFrom(graph)
    for environment in here.components.environments.values():
        local = beam_runner_api_pb2.Environment(urn=python_urns.EMBEDDED_PYTHON)
        environment.CopyFrom(local)
    return FnApiRunner().run_via_runner_api(here, PipelineOptions([]))


def named(graph: Any, urn: str) -> dict[str, Any]:
    """Return a pipeline's transforms of a kind, by name."""
    transforms = graph.components.transforms.values()
    return {step.unique_name: step for step in transforms if step.spec.urn == urn}


def test_the_steps_are_those_of_the_design(graph: Any) -> None:
    steps = [graph.components.transforms[name].unique_name for name in steps_of(graph)]

    assert sorted(steps) == sorted(STEPS)


def test_batches_cross_in_our_coder_and_nothing_else_of_rows_crosses(graph: Any) -> None:
    context = PipelineContext(graph.components)
    found = {}
    for name, step in named(graph, "beam:transform:group_by_key:v1").items():
        (source,) = step.inputs.values()
        found[name] = str(context.coders.get_by_id(graph.components.pcollections[source].coder_id))

    exchanges = {name: coder for name, coder in found.items() if name.endswith("/Exchange")}
    others = {name.removesuffix("/ReshufflePerKey/GroupByKey") for name in found} - {*exchanges}
    assert {*exchanges.values()} == {"TupleCoder[VarIntCoder, ArrowIpcCoder]"}
    assert len(exchanges) == 17  # eleven stages that read, and two of each of three tables
    assert {name for name in others if not name.endswith("/Spread")} == {
        "AddUp/CombinePerKey/GroupByKey"
    }


def test_what_crosses_does_not_grow_with_the_rows(work: Path, graph: Any) -> None:
    def elements(graph: Any) -> dict[str, int]:
        infos = run_here(graph).monitoring_infos()
        counts = [info for info in infos if info.urn == "beam:metric:element_count:v1"]
        return {info.labels["PCOLLECTION"]: info.payload[0] for info in counts}

    once, twice = elements(graph), elements(graph_of(work, "twice"))

    assert len(once) > 200
    assert max(once.values()) < 40  # of 100 rows
    assert twice == once


def test_nothing_is_pickled_from_main(graph: Any) -> None:
    found = re.findall(rb"QlpoO[\w+/=]+", graph.SerializeToString())  # BZh9, in base64
    pickles = [
        bz2.BZ2Decompressor().decompress(base64.b64decode(text[: len(text) // 4 * 4]))
        for text in found
    ]
    staged = [
        dependency.role_payload
        for environment in graph.components.environments.values()
        for dependency in environment.dependencies
    ]

    assert len(pickles) > 200
    assert [pickle for pickle in pickles if b"__main__" in pickle] == []
    assert [name for name in staged if b"main_session" in name] == []


def test_the_very_job_leaves_the_same_bytes_as_a_local_run(work: Path, graph: Any) -> None:
    local = planned(work, carrier="files")
    run_filter(local)

    run_here(graph)

    left = files_of(work / "in-native")
    assert {name: data for name, data in left.items() if not name.startswith("_work/")} == (
        files_of(local.run.home)
    )


def test_a_dry_run_tells_of_the_job_and_leaves_nothing(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--input", str(work / "in"), "--output", str(tmp_path / "out"), "--workers", "1"]
    workers = ["--machine_type=n2-standard-8", "--num_workers=4000", "--max_num_workers=4000"]
    bare = [option.replace("--dry_run=True", "--dry_run") for option in OPTIONS]

    code = main(["filter", *paths, "--", *bare, *workers, "--disk_size_gb=30"])

    told = capsys.readouterr().out.splitlines()
    for option in [*workers, *OPTIONS[2:4], OPTIONS[-1], "--disk_size_gb=30"]:
        assert f"  {option}" in told
    assert [*map(str.strip, told[told.index("steps") + 1 :])][:3] == STEPS[:3]
    assert (code, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--num_workers=0"], "--num_workers must be from 1 to 4,000, got 0"),
        (["--max_num_workers=4001"], "--max_num_workers must be from 1 to 4,000, got 4,001"),
        (["--num_workers=3", "--max_num_workers=2"], "must be --max_num_workers at most, 2, got 3"),
        (["--disk_size_gb=29"], "--disk_size_gb must be from 30 to 65,536, got 29"),
        (["--disk_size_gb=65537"], "--disk_size_gb must be from 30 to 65,536, got 65,537"),
        (["--sdk_container_image="], "--sdk_container_image must name an image with altmill in it"),
        (["--runner=FnApiRunner"], "--dry_run must go with --runner=DataflowRunner"),
        (["--project="], "Beam's options must be right, got: "),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_anything_is_sent(
    options: list[str],
    part: str,
    work: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = ["--input", str(work / "in"), "--output", str(tmp_path / "out"), "--workers", "1"]

    code = main(["filter", *paths, "--", *OPTIONS, *options])

    told = capsys.readouterr()
    assert (code, told.out, part in told.err) == (2, "", True), told.err
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_runs_nowhere_else_has_no_dry_run(
    filtered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["decide", "--from", str(filtered), "--output", str(tmp_path / "out"), "--", *OPTIONS]
    )

    assert (code, "--dry_run must be of filter" in capsys.readouterr().err) == (2, True)


@pytest.fixture
def captionable(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """Return a run to caption, whose models are stand-ins."""
    output = work / "captionable"
    wanted = ["--set", "images.for_recaption=true", "--workers", "1"]
    assert main(["filter", "--input", str(work / "in"), "--output", str(output), *wanted]) == 0
    capsys.readouterr()
    monkeypatch.setattr(captioning, "captioner_of", lambda *_: Echo())
    monkeypatch.setattr(captioning, "scorer_of", lambda *_: Lengths())
    return output


def test_captions_ask_for_a_gpu_and_have_it_alone(
    captionable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["recaption", "--from", str(captionable), "--accelerator", GPU]

    code = main([*command, "--", *OPTIONS, "--machine_type=g2-standard-8"])

    told = capsys.readouterr().out
    assert code == 0
    assert "'no_use_multiple_sdk_containers'" in told
    assert "  --number_of_worker_harness_threads=1\n" in told
    assert [line for line in told.splitlines() if "accelerator" in line] == [
        f"  {'Caption':<16} accelerator {GPU}"
    ]
    assert not (captionable / "captions").exists()
    assert not (captionable / "_work").exists()


def test_the_very_captioning_job_leaves_the_same_bytes_as_a_local_run(captionable: Path) -> None:
    from recaption.settings import read_settings

    def caption(options: list[str], accelerator: str) -> Any:
        settings = read_settings("small", ["choose.rule=theory"])
        job = captioning.Captioning(captionable, settings, accelerator=accelerator)
        names = [shard.name for shard in captioning.FilterRun(captionable).shards]
        return submit(names, partial(captioning.caption_corpus, job=job), options)

    caption([], "")
    local = files_of(captionable / "captions")
    for path in (captionable / "captions").glob("*.parquet"):
        path.unlink()
    graph = caption(OPTIONS, GPU).job.proto_pipeline
    run_here(graph)

    steps = [graph.components.transforms[name] for name in steps_of(graph)]
    hints = {step.unique_name: hints_of(graph, step) for step in steps}
    assert {name: found for name, found in hints.items() if found} == {
        "Caption": {"accelerator": GPU}
    }
    assert files_of(captionable / "captions") == local
    assert any(name.endswith(".parquet") for name in local)
