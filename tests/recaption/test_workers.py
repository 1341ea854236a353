"""Worker processes do not outlive the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_PARENT = """\
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from recaption.workers import {start}
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), {start})
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("start", ["start_worker", "end_with_parent"])
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path, start: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT.format(start=start))
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as parent:
        assert parent.stdout
        worker = Path("/proc") / parent.stdout.readline().strip()
        assert (worker / "stat").exists()
        parent.send_signal(signal.SIGKILL)
        until = time.monotonic() + 20
        while (worker / "stat").exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert not (worker / "stat").exists()
