"""An encoder that knows colours and nothing else, and pictures for it."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from recaption.pictures import read_rgb
from train.evaluation.encoder import Floats

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "cyan": (0, 255, 255),
}


class ColourEncoder:
    """Brings an image to its mean colour, and a text to the colour that it names."""

    model = "colours"
    pretrained = "none"

    def encode_images(self, images: Sequence[bytes]) -> Floats:
        return unit(np.stack([np.asarray(read_rgb(one)).mean(axis=(0, 1)) for one in images]))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        return unit(np.array([_colour(text) for text in texts], float))


class CollapsedEncoder(ColourEncoder):
    """Brings everything to one point."""

    def encode_images(self, images: Sequence[bytes]) -> Floats:
        return unit(np.ones((len(images), 3)))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        return unit(np.ones((len(texts), 3)))


def unit(vectors: Floats) -> Floats:
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled.astype(np.float32)


def directions(number: int, width: int, seed: int = 0) -> Floats:
    """Return random vectors of length 1."""
    return unit(np.random.default_rng(seed).standard_normal((number, width)))


def picture(colour: str, noise: int = 0, side: int = 8) -> bytes:
    pixels = np.empty((side, side, 3))
    pixels[:] = COLOURS[colour]
    pixels += np.random.default_rng(noise).uniform(-noise, noise, 3)
    sink = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def write_folders(
    folder: Path, colours: Sequence[str] = tuple(COLOURS), each: int = 3, noise: int = 0
) -> Path:
    for colour in colours:
        (folder / colour).mkdir(parents=True)
        for i in range(each):
            (folder / colour / f"{i}.png").write_bytes(picture(colour, noise=10 * i + noise))
    return folder


def _colour(text: str) -> tuple[int, int, int]:
    return next((COLOURS[word] for word in re.findall(r"\w+", text) if word in COLOURS), (1, 1, 1))
