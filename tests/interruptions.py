"""Kill runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 120.0


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_once(done: Path, kill: Callable[[int], None], arguments: list[str]) -> int:
    """Start a run, kill it as soon as a task is marked as done; return its process group."""
    process = start(arguments)
    wait_until(lambda: process.poll() is not None or any(done.rglob("*.json")))
    kill(process.pid)
    assert process.wait() == -signal.SIGKILL
    return process.pid


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.002)


def kill_group(process: int) -> None:
    os.killpg(process, signal.SIGKILL)
