"""What a piece of work costs: seconds of CPU and of the clock, and memory, children included."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SAMPLE_EVERY_S = 0.1


class Seconds(NamedTuple):
    """Seconds of all cores together, and of the clock."""

    cpu: float
    wall: float

    def __add__(self, other: "Seconds") -> "Seconds":  # type: ignore[override]  # not tuples' sum
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.cpu - other.cpu, self.wall - other.wall)


NOTHING = Seconds(0.0, 0.0)


def seconds() -> Seconds:
    """Return what this process and all its children, living or not, have used so far."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in own)
    for fields in _descendants(os.getpid()).values():  # theirs, and their dead children's
        cpu += sum(map(int, fields[11:15])) / _TICKS_PER_S
    return Seconds(cpu, time.monotonic())


class Memory:
    """The most memory that processes had, in bytes; pages of mapped files count as theirs."""

    def __init__(self) -> None:
        self.largest = 0
        """Of any one process, as the kernel noted it."""
        self.together = 0
        """Of all processes at one moment; a page that two of them map counts twice."""


@contextmanager
def watched(pid: int) -> Iterator[Memory]:
    """Watch the memory of a process and its descendants."""
    memory = Memory()

    def look() -> None:
        every = [status(one) for one in (pid, *_descendants(pid))]
        memory.largest = max(memory.largest, *(one.get("VmHWM", 0) for one in every))
        memory.together = max(memory.together, sum(one.get("VmRSS", 0) for one in every))

    with looking(look, _SAMPLE_EVERY_S):
        yield memory


@contextmanager
def looking(look: Callable[[], object], every_s: float) -> Iterator[None]:
    """Look at something now and then, in a thread, while what is inside is done."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _descendants(pid: int) -> dict[int, list[str]]:
    """Return the fields of /proc/PID/stat from the state on, of each process below `pid`."""
    every = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            every[int(path.parent.name)] = path.read_text().rpartition(") ")[2].split()
        except OSError:  # it has just ended
            continue
    found: dict[int, list[str]] = {}
    parents = {pid}
    while parents:
        below = {child: fields for child, fields in every.items() if int(fields[1]) in parents}
        found |= below
        parents = set(below)
    return found


def status(pid: int) -> dict[str, int]:
    """Return the memory lines of /proc/PID/status, in bytes; nothing if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in lines)
        if name.startswith("Vm")
    }
