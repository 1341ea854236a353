"""Images as the squares of numbers that a model sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from recaption.pixels import CLIP_MEAN, CLIP_STD, read_square, scale_colours


def read_squares(images: Sequence[bytes], size_px: int) -> Any:
    """Decode images: a uint8 tensor (n, 3, size_px, size_px)."""
    squares = np.empty((len(images), 3, size_px, size_px), np.uint8)
    for square, image in zip(squares, images, strict=True):
        square[:] = read_square(image, size_px)
    return torch.from_numpy(squares)


def read_pixels(
    images: Sequence[bytes],
    size_px: int,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> Any:
    """Decode images, and shift and scale their colours: float32 of the same shape."""
    return scale_colours(read_squares(images, size_px), mean, std)
