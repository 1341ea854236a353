"""Read images as people see them: upright, in red, green and blue."""

import io
import threading
import warnings
from contextlib import ExitStack, suppress
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
"""What browsers show.

Pillow reads forty more, some through outside programs (EPS starts Ghostscript) or libraries that
hostile files have broken (TIFF), or by decoding before it tells the size (ICO); no file of a crawl
shall reach those.
"""

Image.init()  # with `formats` given, Pillow looks no further than the plugins loaded so far


_ORIENTATION = 274


class Header(NamedTuple):
    """What is told of an image before its pixels."""

    width_px: int
    height_px: int
    turned: bool
    """A JPEG whose EXIF says that it lies on a side, or is mirrored."""


def read_header(data: bytes) -> Header:
    """Read an image's header, decoding no pixel; of damage Pillow raises more than OSError."""
    with _lenient, Image.open(io.BytesIO(data), formats=FORMATS) as image:
        turned = False
        if image.format == "JPEG":
            with suppress(Exception):  # as `upright` does
                turned = image.getexif().get(_ORIENTATION, 1) != 1
        return Header(*image.size, turned)


def read_rgb(data: bytes) -> Image.Image:
    """Decode an image that is known to be decodable, of whatever size and colour mode."""
    with _lenient:
        return _rgb(upright(Image.open(io.BytesIO(data), formats=FORMATS)))


class _Lenient:
    """Nothing of Pillow about sizes, which were judged before, or about odd metadata.

    Both settings are the process's: they change when the first of its threads enters, and are back
    when the last one leaves.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                Image.MAX_IMAGE_PIXELS = None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


_lenient = _Lenient()


def upright(image: Image.Image) -> Image.Image:
    """Decode an image, and turn it as its EXIF says; damaged EXIF says nothing."""
    image.load()  # a PNG's EXIF may follow its pixels
    with suppress(Exception):  # Pillow raises far more than OSError on EXIF that is damaged
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """Bring to 8 bits of red, green and blue; what is transparent shows the colour below it."""
    if image.mode.startswith("I;16"):  # Pillow would clip 65,535 shades at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
