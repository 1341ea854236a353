"""Lines of what the benchmarks found."""

import sys
from collections.abc import Iterable
from typing import NamedTuple


class Line(NamedTuple):
    """Work that was measured."""

    what: str
    items: int
    cpu_s: float
    note: str = ""

    @property
    def rate(self) -> float:
        """Items per second of CPU."""
        return self.items / max(self.cpu_s, 1e-9)


def heading(text: str) -> None:
    say(f"\n{text}\n{'':46}{'items':>12}{'CPU s':>9}{'per CPU s':>12}{'ours is':>10}")


def show(lines: list[Line], ours: Line | None) -> None:
    """Print lines, each with how many times the rate of `ours` is its own."""
    for line in lines:
        times = f"{ours.rate / line.rate:9.1f}x" if ours and not line.what.startswith(" ") else ""
        say(
            f"{line.what:<46}{line.items:>12,}{line.cpu_s:>9.2f}{line.rate:>12,.0f}{times:>10}"
            f"  {line.note}".rstrip()
        )


def say_all(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
