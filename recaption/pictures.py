"""Read images as people see them: upright, in red, green and blue."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
"""What browsers show.

Pillow reads forty more, some through outside programs (EPS starts Ghostscript) or libraries that
hostile files have broken (TIFF), or by decoding before it tells the size (ICO); no file of a crawl
shall reach those.
"""

Image.init()  # with `formats` given, Pillow looks no further than the plugins loaded so far


def read_rgb(data: bytes) -> Image.Image:
    """Decode an image that is known to be decodable, of whatever size and colour mode."""
    with trusting():
        return decode_rgb(data)


@contextmanager
def trusting() -> Iterator[None]:
    """Let Pillow read images of any size, and be silent; it is told so for all threads at once."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # sizes were judged before
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode_rgb(data: bytes) -> Image.Image:
    """As `read_rgb`, for threads, while the one that started them is `trusting`."""
    return _rgb(upright(Image.open(io.BytesIO(data), formats=FORMATS)))


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
