"""Bring images to the squares of numbers that a model sees, as BLIP's processor does it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from PIL import Image

from recaption.pictures import read_rgb

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""What BLIP subtracts from red, green and blue in [0, 1]."""
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""What it divides them by then."""
MAX_STRETCH = 4 / 3
"""A training crop is wider than high, or the reverse, by this factor at most.

Source: Inception's crops (arXiv:1409.4842, section 6), the default of torchvision's.
"""


def read_square(image: bytes, size_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode one image, and bring it to a square: an array (3, size_px, size_px)."""
    picture = read_rgb(image).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(picture).transpose(2, 0, 1)


def scale_colours(squares: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Shift and scale the colours of squares, from 0 to 255: float32 of the same shape."""
    shift = torch.tensor(mean, device=squares.device)[:, None, None]
    scale = torch.tensor(std, device=squares.device)[:, None, None]
    return (squares.float() / 255 - shift) / scale


def crop(squares: Any, min_share: float, generator: Any) -> Any:
    """Cut a random window out of each square, and stretch it to the square: training data.

    Nothing is mirrored, as captions say left and right, and show writing.

    Args:
        squares: Uint8 tensor (n, 3, px, px), on any device.
        min_share: The smallest window's area as a share of the square's, above 0; at 1 the squares
            stay as they are.
        generator: A CPU generator of torch; the windows depend on it and on n alone.

    Returns:
        Float32 tensor (n, 3, px, px), from 0 to 255.
    """
    pixels = squares.float()
    if min_share >= 1:
        return pixels
    area, stretch, across, down = torch.rand(4, len(squares), generator=generator)
    area = min_share + (1 - min_share) * area
    stretch = (MAX_STRETCH ** (2 * stretch - 1)).clamp(area, 1 / area)  # to stay in the square
    width, height = (area * stretch).sqrt(), (area / stretch).sqrt()
    windows = torch.zeros(len(squares), 2, 3)
    windows[:, 0, 0], windows[:, 1, 1] = width, height
    windows[:, 0, 2] = (2 * across - 1) * (1 - width)  # its centre, from -1 to 1
    windows[:, 1, 2] = (2 * down - 1) * (1 - height)
    grid = F.affine_grid(windows.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
