"""Flex templates: every parameter with its help and form, and a launch that gets to its job."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.arguments import job_parsers
from pipelines.commands import main
from pipelines.template import JOBS, SEPARATOR, command_of, metadata

ROOT = Path(__file__).parents[2]
IMAGE = "europe-docker.pkg.dev/some-project/some-repository/altmill:0.1.0"
GPU = "type:nvidia-l4;count:1;install-nvidia-driver"
OF_A_TERMINAL = {"dry-run", "workers"}


def described(job: str) -> dict[str, Any]:
    """Return a template's parameters by name."""
    about = metadata(job_parsers()[job], job)
    return {parameter["name"]: parameter for parameter in about["parameters"]}


@pytest.mark.parametrize("job", JOBS)
def test_every_option_of_the_job_is_a_parameter_with_the_same_help(job: str) -> None:
    told = job_parsers()[job].format_help().partition("options:")[2]

    found = described(job)

    assert {*found} == {*re.findall(r"^  --(\S+)", told, re.MULTILINE)} - OF_A_TERMINAL
    plain = re.sub(r"[\s-]+", "", told)  # argparse breaks lines at blanks and hyphens
    for parameter in found.values():
        text = parameter["helpText"].removesuffix(f", separated by {SEPARATOR!r}")
        assert re.sub(r"[\s-]+", "", text) in plain
    usage = job_parsers()[job].format_usage()
    required = {name for name, parameter in found.items() if not parameter["isOptional"]}
    assert required == {*re.findall(r"(?<!\[)--(\S+) (?:PATH|DIR)", usage)}


@pytest.mark.parametrize(
    ("job", "name", "value", "read"),
    [
        ("filter", "input", "gs://bucket/crawl/*.parquet", "gs://bucket/crawl/*.parquet"),
        ("filter", "input", "crawl", None),
        ("filter", "input", "gs://", None),
        ("filter", "set", "a.b=1", ["a.b=1"]),
        ("filter", "set", "a.b=1;name='x=y'", ["a.b=1", "name='x=y'"]),
        ("filter", "set", "a.b", None),
        ("filter", "set", "a.b=1;", None),
        ("filter", "overwrite", "true", True),
        ("filter", "overwrite", "false", False),
        ("filter", "overwrite", "yes", None),
        ("recaption", "accelerator", GPU, GPU),
        ("recaption", "accelerator", "type:nvidia-l4;count:2", "type:nvidia-l4;count:2"),
        ("recaption", "accelerator", "nvidia-l4", None),
        ("recaption", "accelerator", "type:nvidia-l4;count:0", None),
        ("recaption", "captioner", "hf:Salesforce/blip", "hf:Salesforce/blip"),
    ],
)
def test_what_a_form_lets_in_is_what_the_job_understands(
    job: str, name: str, value: str, read: Any
) -> None:
    forms = described(job)[name].get("regexes", [".*"])

    assert all(re.search(form, value) for form in forms) == (read is not None)
    if read is not None:
        required = [f"--{n}=somewhere" for n, p in described(job).items() if not p["isOptional"]]
        parser = job_parsers()[job]
        command = command_of(parser, job, [*required, f"--{name}={value}"])
        options = parser.parse_args(command[1 : command.index("--")])
        assert getattr(options, name) == read


def test_a_launch_tells_the_jobs_parameters_from_beams_options() -> None:
    given = [
        *("--input=gs://b/in", "--output", "gs://b/out", "--set=a.b=1;c.d=2", "--overwrite=true"),
        *("--region=europe-west4", "--setup_file=x", "--template_location=gs://b/job_object"),
    ]

    command = command_of(job_parsers()["filter"], "filter", given)

    assert command == [
        *("filter", "--input=gs://b/in", "--output=gs://b/out", "--set=a.b=1", "--set=c.d=2"),
        *("--overwrite", "--", "--runner=DataflowRunner"),
        *("--region=europe-west4", "--setup_file=x", "--template_location=gs://b/job_object"),
    ]


def test_the_templates_are_what_dataflow_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    types = pytest.importorskip(
        "google.cloud.dataflow_v1beta3.types", reason="needs the extra dataflow"
    )

    code = main(["template", "--image", IMAGE, "--output", str(tmp_path)])

    told = capsys.readouterr().out.splitlines()
    paths = [Path(line.removeprefix("template: ")) for line in told]
    images = {}
    for path in paths:
        spec = types.ContainerSpec.from_json(path.read_text(encoding="utf-8"))
        beside = path.with_name("metadata.json").read_text(encoding="utf-8")
        assert types.TemplateMetadata.from_json(beside) == spec.metadata
        assert spec.default_environment.sdk_container_image == spec.image
        assert spec.sdk_info.language == types.SDKInfo.Language.PYTHON
        images[path.parent.name] = spec.image
    assert (code, images) == (0, {"filter": IMAGE, "recaption": f"{IMAGE}-gpu"})


@pytest.mark.parametrize("image", ["altmill", "altmill:1", "r.dev/altmill", "r.dev/Altmill:1", ""])
def test_an_image_that_no_registry_has_is_refused(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["template", "--image", image, "--output", str(tmp_path / "out")])

    assert (code, "--image must be like " in capsys.readouterr().err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_launch_leaves_the_job_with_its_workers_for_dataflow(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip(
        "apache_beam.runners.dataflow.internal.apiclient", reason="needs the extra dataflow"
    )
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    staged = {}

    def stage(_: object, to: str, name: str, stream: Any, *__: object) -> None:
        staged[f"{to}/{name}"] = stream.read()

    # The only two calls that would go to Google.
    monkeypatch.setattr(client.DataflowApplicationClient, "stage_file", stage)
    quiet = "_warn_if_soft_delete_policy_enabled"
    monkeypatch.setattr(GoogleCloudOptions, quiet, lambda *_: None)
    monkeypatch.setenv("ALTMILL_JOB", "filter")
    given = f"""launch.py --input={sample} --output={tmp_path / "out"} --overwrite=true --no_auth
        --set=rules.token_count.max_inclusive=9;materialise=true
        --project=some-project --region=europe-west4 --job_name=some-name
        --temp_location=gs://some-bucket/temp --staging_location=gs://some-bucket/staging
        --template_location=gs://some-bucket/launches/job_object --sdk_container_image={IMAGE}
        --num_workers=5 --max_num_workers=100 --machine_type=n2-standard-8 --disk_size_gb=100"""
    monkeypatch.setattr(sys, "argv", shlex.split(given))

    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "docker" / "launch.py"), run_name="__main__")

    job = json.loads(staged["gs://some-bucket/launches/job_object"])
    (pool,) = job["environment"]["workerPools"]
    (image,) = pool["sdkHarnessContainerImages"]
    options = job["environment"]["sdkPipelineOptions"]["options"]
    (graph,) = (data for name, data in staged.items() if name.endswith("/pipeline.pb"))
    assert (end.value.code, job["name"], job["type"]) == (0, "some-name", "JOB_TYPE_BATCH")
    assert (pool["machineType"], pool["diskSizeGb"], pool["numWorkers"]) == (
        "n2-standard-8",
        100,
        5,
    )
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 100
    assert image["containerImage"] == pool["workerHarnessContainerImage"] == IMAGE
    assert options["save_main_session"] is False
    assert b"Materialise/Perform" in graph
    assert not any("main_session" in name for name in staged)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["_work", "plan.json"]
