"""Pictures that hashes can tell apart: smooth noise of several scales, from a seed."""

import io
from functools import cache

import numpy as np
from PIL import Image


@cache
def texture(seed: int, width: int = 160, height: int = 120, kind: str = "PNG") -> bytes:
    """Return an image file; equal arguments, equal bytes."""
    chance = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 60), (12, 30), (40, 12)):
        noise = np.clip(128 + strength * chance.standard_normal((cells, cells, 3)), 0, 255)
        layer = Image.fromarray(noise.astype(np.uint8))
        picture += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) - 128.0
    file = io.BytesIO()
    Image.fromarray(np.clip(128 + picture, 0, 255).astype(np.uint8)).save(file, kind)
    return file.getvalue()
