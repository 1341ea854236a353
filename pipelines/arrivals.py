"""What becomes of an image that has come: its facts, and its bytes or a smaller image's."""

import hashlib
import io
from typing import Any

import pyarrow as pa
from PIL import Image

from filters.recipe import Images
from pipelines.images import guarded, read_header
from pipelines.spool import Fetched
from recaption.pictures import read_rgb

MEASURED = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("sha256", pa.string()),
    ]
)
"""The columns that img2dataset adds to those of its input, in its order."""

BROKEN = "failed_to_resize"
"""img2dataset's status of what came and is no image that can be used."""

_JPEG_QUALITY = 95
"""img2dataset's default."""


def failed(error: str, status: str = "failed_to_download") -> Fetched:
    """Return a row without an image."""
    return Fetched(_facts(status, error), None)


def look_at(data: bytes, shorter_side_px: int | None) -> Fetched:
    """Look at an image file.

    Its header is read; its pixels are decoded only to make them fewer, so damage to them may remain
    for the filter job to find.

    Args:
        data: The file.
        shorter_side_px: Make larger images this small; None: keep every file as it is.
    """
    header = read_header(data, Images().max_pixels)
    if header.error or not (header.width and header.height):
        return failed(header.error or "image_undecodable", BROKEN)
    size, kept = (header.width, header.height), data
    if shorter_side_px and min(size) > shorter_side_px:
        smaller = guarded(lambda: _shrink(data, shorter_side_px), None)
        if smaller is None:
            return failed("image_undecodable", BROKEN)
        kept, size = smaller
    digest = hashlib.sha256(data).hexdigest()
    facts = _facts("success", None, (*size, header.width, header.height), digest)
    return Fetched(facts, kept)


def _facts(
    status: str,
    error: str | None,
    sizes: tuple[int | None, ...] = (None,) * 4,
    sha256: str | None = None,
) -> dict[str, Any]:
    return dict(zip(MEASURED.names[1:], (status, error, *sizes, sha256), strict=True))


def _shrink(data: bytes, shorter_side_px: int) -> tuple[bytes, tuple[int, int]]:
    """Return a JPEG, upright as its EXIF said, and its width and height."""
    picture = read_rgb(data)
    scale = shorter_side_px / min(picture.size)
    width, height = (max(shorter_side_px, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=_JPEG_QUALITY)
    return sink.getvalue(), picture.size
