"""Flink: a cluster of this machine leaves the same bytes, also if a part of it is killed."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import main
from tests.commands import run, start
from tests.outputs import files_of

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".flink"
WEB = "http://localhost:8081"
STAGES = {
    *("Read", "CountPairs", "CountTexts", "CountImages", "RankNgrams", "MergeRanks"),
    *("WriteLookups", "Measure", "RankTexts", "RankImages", "Decide", "MergeSubset", "MergeHosts"),
    *("Materialise", "AddUp", "Write"),
}
pytestmark = [
    pytest.mark.flink,
    pytest.mark.skipif(not shutil.which("java"), reason="Flink needs Java"),
    pytest.mark.skipif(not shutil.which("mvn"), reason="the job server comes by Maven"),
]


def ask(path: str) -> Any:
    with urllib.request.urlopen(f"{WEB}/{path}", timeout=30) as answer:
        return json.load(answer)


def wait_for(happened: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.2)
    raise TimeoutError


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Have a cluster of plain processes, or of containers."""
    with suppress(OSError):
        ask("overview")
        pytest.skip("a Flink cluster is at work on this machine")
    beginning = start("make flink-up", ROOT)
    _, complaints = beginning.communicate()
    if "Error 3" in complaints:
        pytest.skip(f"a package cannot be had: {complaints}")
    assert beginning.returncode == 0, complaints
    yield
    run("make flink-down", ROOT)
    assert wait_for(lambda: not workers(), 30)


def workers() -> list[int]:
    """Return the processes of Beam's Python workers."""
    found = subprocess.run(
        ["pgrep", "-f", "pipelines[.]worker"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


@pytest.fixture(scope="module")
def here(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a run without a cluster left."""
    output = tmp_path_factory.mktemp("here") / "out"
    options = ["--set", "materialise=true", "--workers", "1"]
    assert main(["filter", "--input", str(sample), "--output", str(output), *options]) == 0
    return output


def job() -> dict[str, Any]:
    """Return the job that was begun last."""
    jobs = ask("jobs/overview")["jobs"]
    newest = max(jobs, key=lambda found: found["start-time"], default=None)
    return ask(f"jobs/{newest['jid']}") if newest else {"state": "", "vertices": []}


def test_a_cluster_that_loses_a_task_manager_leaves_the_same_bytes(
    sample: Path, here: Path, tmp_path: Path
) -> None:
    where = f"INPUT={sample} OUTPUT={tmp_path / 'out'}"
    doing = start(f"make filter RUNNER=flink {where} ARGS='--set materialise=true'", ROOT)
    wait_for(has_counted, 600)
    [pids] = (HOME / "pid").glob("*taskexecutor.pid")
    os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)
    start_task_manager()
    printed, complaints = doing.communicate()

    assert doing.returncode == 0, complaints
    assert "kept" in printed
    assert files_of(tmp_path / "out") == files_of(here)
    done = job()
    named = " ".join(vertex["name"] for vertex in done["vertices"])
    assert (done["name"], done["state"]) == ("altmill", "FINISHED")
    assert {stage for stage in STAGES if stage not in named} == set()
    assert ask(f"jobs/{done['jid']}/exceptions")["exceptionHistory"]["entries"] != []


def has_counted() -> bool:
    """Say whether a stage in the middle of the job is done."""
    done = [stage["name"] for stage in job()["vertices"] if stage["status"] == "FINISHED"]
    return any("CountPairs" in name and "CountTexts" in name for name in done)


def start_task_manager() -> None:
    """Start another TaskManager, as what looks after a cluster would."""
    [program] = HOME.glob("venv/lib/python3.*/site-packages/pyflink/bin/taskmanager.sh")
    folders = {f"FLINK_{name.upper()}_DIR": str(HOME / name) for name in ("conf", "log", "pid")}
    subprocess.run(["bash", program, "start"], env=os.environ | folders, check=True)
