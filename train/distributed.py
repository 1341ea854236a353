"""The processes of a run, one for each GPU, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of a run."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the first process of its machine."""
        return os.environ.get("LOCAL_RANK", "0") == "0"

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.ranks > 1:
            distributed.barrier()

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' values."""
        if self.ranks > 1:
            value = value.detach().clone()
            distributed.all_reduce(value)
        return value


@contextmanager
def joined(device: str = "") -> Iterator[World]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: As torch names it; empty: a GPU of its own where there is one, else the CPU.
    """
    rank, ranks = (int(os.environ.get(name, was)) for name, was in (("RANK", 0), ("WORLD_SIZE", 1)))
    if not device and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    place = torch.device(device or "cpu")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if ranks == 1:
        yield World(place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(place, rank, ranks)
    finally:
        distributed.destroy_process_group()
