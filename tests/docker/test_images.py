"""The images: linted, pinned, without secrets, and what may be in them is named."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.arguments import parser
from pipelines.dataflow import read_options
from tests.docker.__main__ import main
from tests.docker.dockerfile import DOCKERFILE, ROOT, allowed, read_stages

AS_ROOT = {"dataflow": "0"}
"""Dataflow's workers and launcher write where only root may; the Dockerfile tells more."""


def test_the_dockerfile_is_linted() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint, "the extra dev brings it"

    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_every_base_is_pinned_to_a_release() -> None:
    stages = read_stages()

    bases = [stage.base for stage in stages.values() if stage.base not in stages]

    assert len(bases) == 3
    for base in bases:
        assert re.search(r":[\w.-]*\d+\.?\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", base), base


def test_what_runs_is_not_root_but_where_dataflow_wants_it() -> None:
    stages = read_stages()
    bases = {stage.base for stage in stages.values()}

    users = {name: stage.every("USER") for name, stage in stages.items()}

    final = {name for name in stages if name not in bases and stages[name].every("ENTRYPOINT")}
    assert final == {"worker", "trainer", "dataflow"}
    assert {name: users[name][-1] for name in final} == dict.fromkeys(final, "10001") | AS_ROOT


def test_nothing_secret_can_get_in() -> None:
    context = allowed(DOCKERFILE.with_name("Dockerfile.dockerignore"))
    told = DOCKERFILE.read_text(encoding="utf-8")

    packages = ["filters", "recaption", "train", "pipelines"]
    files = ["pyproject.toml", "README.md", "LICENSE", "constraints.txt", "docker/launch.py"]
    assert sorted(context) == sorted(packages + files)
    assert all((ROOT / name).exists() for name in context)
    assert not re.search(r"(?i)secret|token|password|credential|api.?key", told)
    assert not re.search(r"(?m)^ADD ", told)


def test_requirements_are_a_layer_that_our_code_does_not_change() -> None:
    copied = " ".join(read_stages()["core"].every("COPY"))

    assert copied == "pyproject.toml README.md LICENSE constraints.txt ./"


def test_the_images_are_of_the_beam_that_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (beam,) = re.findall(r"^apache-beam==(.*)$", pins, re.MULTILINE)

    assert read_stages()["beam"].base == f"apache/beam_python3.11_sdk:{beam}"


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("target", ["worker", "dataflow"])
def test_what_an_image_installs_runs(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(target)

    assert f"{target}: installed and run in " in capsys.readouterr().out


def test_the_commands_of_the_readme_are_understood() -> None:
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="needs the extra dataflow")
    text = (ROOT / "docker" / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    commands = [line.split("-m pipelines ")[1] for line in re.findall("^python.*", text, re.M)]

    for command in commands:
        ours, _, beam = command.partition(" -- ")
        parser().parse_args(shlex.split(ours))
        values = read_options(shlex.split(beam)).get_all_options()
        assert values["dry_run"] == "True"
        assert values["machine_type"]

    assert len(commands) == 2
