"""What a loader gives and a model learns from."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of an image and a text."""

    images: torch.Tensor
    """Uint8, (n, 3, px, px); cropped and mirrored already."""
    tokens: torch.Tensor
    """Int64, (n, t): [CLS], the text, [SEP], and padding."""
    mask: torch.Tensor
    """Bool, (n, t): True at tokens, False at padding."""
    texts: torch.Tensor
    """Int64, (n,): equal texts have equal numbers."""
    keys: list[str]
    """Of the samples."""
