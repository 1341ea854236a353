"""Bring rows of a corpus to the device that a model is on."""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recaption.pairs import Corpus, caption_ids
from recaption.pixels import CLIP_MEAN, CLIP_STD, crop, scale_colours
from recaption.wordpiece import Tokenizer


@dataclass(frozen=True, slots=True)
class Texts:
    """Captions on the device, cut to the longest of them."""

    ids: torch.Tensor
    """Int64, (b, t), beginning with [CLS]."""
    mask: torch.Tensor
    """Bool, (b, t), true at tokens."""
    caption: torch.Tensor
    """Int64, (b); captions are equal where these are."""

    def starting(self, token: int) -> torch.Tensor:
        """Return the ids with another first token."""
        ids = self.ids.clone()
        ids[:, 0] = token
        return ids


class Feed:
    """Brings rows of a corpus to the device."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, device: torch.device) -> None:
        self.device = device
        self._squares = corpus.squares
        ids, mask = tokenizer.encode(corpus.captions)
        self._ids, self._lengths = ids.astype(np.int32), mask.sum(1)
        self.caption = caption_ids(self._ids)

    def pixels(self, rows: NDArray[np.int64], crop_share: float = 1, seed: int = 0) -> torch.Tensor:
        """Return normalised pixels, (b, 3, px, px), of windows of the images where told so."""
        windows = crop(
            self._send(self._squares[rows]), crop_share, torch.Generator().manual_seed(seed)
        )
        return scale_colours(windows, CLIP_MEAN, CLIP_STD)

    def texts(self, rows: NDArray[np.int64]) -> Texts:
        """Return captions."""
        longest = int(self._lengths[rows].max())
        lengths = self._send(self._lengths[rows])
        return Texts(
            self._send(self._ids[rows, :longest].astype(np.int64)),
            torch.arange(longest, device=self.device) < lengths[:, None],
            self._send(self.caption[rows]),
        )

    def _send(self, values: NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Compute in bfloat16 on a GPU, and in float32 elsewhere."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()
