"""Shelf: a shard is open from its first sample to the last of its block."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.train.corpora import opened, write_tars  # noqa: E402
from train.order import Block  # noqa: E402
from train.shelf import Shelf  # noqa: E402


def num_open(folder: Path) -> int:
    """Return how many tars this process has open."""
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.is_relative_to(folder) for link in links)


def block(number: int, *units: int) -> Block:
    rows = np.arange(3 * len(units))
    return Block(0, number, np.array(units), 3 * np.arange(1, len(units) + 1), rows)


def test_a_block_is_open_while_samples_of_it_are_awaited(tmp_path: Path) -> None:
    source = write_tars(tmp_path / "data", (3,) * 4)
    shelf = Shelf(opened(source).units)
    first, second = block(0, 0, 1), block(1, 2, 3)
    shelf.announce(first, 2)
    shelf.announce(first, 2)
    shelf.announce(second, 1)
    told = [num_open(source)]

    for unit in (0, 1, 2):
        shelf.reader(first if unit < 2 else second, unit).read(0)
    told.append(num_open(source))
    for _ in range(4):
        shelf.done(first)
        told.append(num_open(source))
    shelf.done(second)  # more may be announced of the latest
    told.append(num_open(source))
    shelf.announce(block(2, 0), 1)
    told.append(num_open(source))

    assert told == [0, 3, 3, 3, 3, 1, 1, 0]
    shelf.reader(block(2, 0), 0).read(0)
    assert num_open(source) == 1
    shelf.close()
    assert num_open(source) == 0
