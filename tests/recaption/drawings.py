"""Small pictures that differ from each other, as bytes."""

import io
from typing import Any

import numpy as np
from PIL import Image


def drawing(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Draw smooth random colours."""
    grid = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encode a picture."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()
