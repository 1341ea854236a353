"""What the tasks of a run cost: seconds of CPU, bytes sent and written, and memory.

Every process notes its tasks in a file of its own in the run's work folder; when the run ends, they
are added up per stage for `run.json`, which no other output depends on.  Memory and bytes written
are what Linux counts in /proc, and 0 elsewhere.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REST = "Rest"
"""What the run's own process did beside tasks: Beam, the manifest, the report."""

_SELF = Path("/proc/self")
_RESET_PEAK = "5"
"""To /proc/PID/clear_refs, see proc(5)."""

Used = dict[str, float]
"""`tasks`, `cpu_s`, `sent_bytes`, `written_bytes`, and `peak_bytes`, the most of any one task."""


@contextmanager
def watched(work: Path, stage: str) -> Iterator[Used]:
    """Note what a task uses; the caller adds `sent_bytes` to what is yielded."""
    with suppress(OSError):
        (_SELF / "clear_refs").write_text(_RESET_PEAK)
    cpu, written = time.process_time(), _written()
    used: Used = {"tasks": 1}
    yield used
    used["cpu_s"] = time.process_time() - cpu
    used["written_bytes"] = _written() - written
    used["peak_bytes"] = peak()
    path = _folder(work) / f"{os.getpid()}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps([stage, used]) + "\n")


def add_up(work: Path, own_cpu_s: float) -> dict[str, Used]:
    """Add up what a run's tasks used, per stage, in the order of their names.

    Args:
        work: The run's work folder.
        own_cpu_s: Of this process since the run began; less its tasks, it is `REST`.
    """
    total: dict[str, Used] = {}
    rest, folder = own_cpu_s, _folder(work)
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():  # not of a runner's
        for line in path.read_text().splitlines():
            stage, used = json.loads(line)
            _add(total.setdefault(stage, {}), used)
            rest -= used["cpu_s"] * (path.stem == str(os.getpid()))
    _add(total.setdefault(REST, {}), {"tasks": 1, "cpu_s": max(0.0, rest), "peak_bytes": peak()})
    return {
        stage: {name: round(value, 3) for name, value in total[stage].items()}
        for stage in sorted(total)
    }


def peak() -> int:
    """Return the most memory that this process had since the last task began, in bytes.

    Pages of mapped files are among it.
    """
    return 1024 * _read("status", "VmHWM")


def _written() -> int:
    """Return the bytes that this process has written, to files mostly."""
    return _read("io", "wchar")


def _read(file: str, name: str) -> int:
    """Return a number of /proc/self; 0 where there is no such thing."""
    with suppress(OSError):
        for line in (_SELF / file).read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
    return 0


def _add(total: Used, used: Used) -> None:
    for name, value in used.items():
        before = total.get(name, 0)
        total[name] = max(before, value) if name == "peak_bytes" else before + value


def _folder(work: Path) -> Path:
    return work / "usage"
