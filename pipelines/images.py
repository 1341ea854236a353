"""Measure images: the size from the header, and whether the pixels can be decoded."""

import io
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from PIL import Image

from recaption.pictures import FORMATS

_LONGEST_SIDE_PX = 2**31 - 1
"""What a column of sizes can hold."""

Answer = TypeVar("Answer")


class Header(NamedTuple):
    """What an image's header says, or why it says nothing."""

    format: str | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None


def read_header(data: bytes, max_pixels: int) -> Header:
    """Read an image's header, decoding no pixel."""

    def read() -> Header:
        with open_image(data, None) as image:
            width, height = image.size
            if max(width, height) > _LONGEST_SIDE_PX:
                return Header(image.format, error="image_too_large")
            too_large = width * height > max_pixels
            return Header(image.format, width, height, "image_too_large" if too_large else None)

    return guarded(read, Header(error="image_undecodable"))


def decodes(data: bytes, max_pixels: int) -> bool:
    """Say whether all pixels can be decoded.

    At full size: Pillow 12 corrupts its heap on damaged RGB JPEGs decoded at a reduced scale.
    """

    def decode() -> bool:
        with open_image(data, max_pixels) as image:
            image.load()
        return True

    return guarded(decode, False)


@contextmanager
def open_image(data: bytes, max_pixels: int | None) -> Iterator[Image.Image]:
    """Open an image; sizes far beyond `max_pixels` that turn up while it is decoded are refused."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = before


def isolate(wanted: bool = True) -> None:
    """From now on, look at each image in a process of its own, which it may bring down alone."""
    global _isolated  # noqa: PLW0603  # one for all threads, as a worker's death is
    _isolated = wanted


_isolated = False
_looking = threading.RLock()
"""Held while an image is looked at: Pillow's limit and Python's warnings are a process's, and a
cluster's worker has threads."""


def guarded(look: Callable[[], Answer], otherwise: Answer) -> Answer:
    """Return what a look at an image says, or else `otherwise`.

    Pillow raises far more than OSError on hostile files, so whatever it raises is the answer.
    """
    try:
        with _looking, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the answer is counted, not printed
            return _in_child(look) if _isolated else look()
    except Exception:  # see above
        return otherwise


def _in_child(look: Callable[[], Answer]) -> Answer:
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(sender, pickle.dumps(look()))
        finally:
            os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as pipe:  # noqa: PTH123  # a descriptor
        answer = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(answer)  # our own; empty, and so an error, if it died
