"""Bring batches to the device, and know where the loader was after each."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from train.batch import Batch


class Batches(Protocol):
    """What the loop needs of a loader."""

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]:
        """Return where the batch after the one last given begins."""
        ...

    @property
    def bad(self) -> Mapping[str, int]:
        """How many samples so far were replaced as they could not be read, by reason."""
        ...


@dataclass(frozen=True, slots=True)
class Fed:
    """A batch on the device."""

    batch: Batch
    position: dict[str, Any]
    """Of the loader, after the batch."""
    bad: Mapping[str, int]
    """Samples that were bad, up to the batch, by reason."""
    waited_s: float
    """For the loader."""


class Feed:
    """Brings batches to the device, one after the other."""

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._rest = iter(batches)

    def next(self) -> Fed:
        """Return the next batch; its copy to a GPU may still be under way."""
        begun = time.monotonic()
        batch = next(self._rest)
        waited = time.monotonic() - begun
        there = {
            name: self._send(getattr(batch, name)) for name in ("images", "tokens", "mask", "texts")
        }
        position, bad = self._batches.state_dict(), dict(self._batches.bad)
        return Fed(replace(batch, **there), position, bad, waited)

    def _send(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)
