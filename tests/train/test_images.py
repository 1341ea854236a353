"""Images: Pillow's pixels, but for a level or so, and no bad file brings more than an error."""

import io
import struct
import warnings
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shards import SHARED_DATA, photo, picture

torch = pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError  # noqa: E402
from recaption.pictures import FORMATS  # noqa: E402
from train.augment import Images, Window, chances  # noqa: E402
from train.images import BadSampleError, read_image  # noqa: E402

PX = 64
SQUASH = Images(resize_px=80)
CLIP = Images(resize_px=80, keep_aspect=True)
LAST = 1 - 2**-32


def plain(data: bytes, images: Images, left: int, top: int) -> np.ndarray[Any, Any]:
    """Decode in full by Pillow, and let it resize and cut."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    size = images.resized(*picture.size)
    resized = picture.resize(size, Image.Resampling[images.filter.upper()])
    return np.asarray(resized.crop((left, top, left + PX, top + PX))).transpose(2, 0, 1)


def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("images", [SQUASH, CLIP, Images(resize_px=80, filter="bilinear")])
@pytest.mark.parametrize("size", [(320, 240), (90, 300), (200, 84), (80, 80), (50, 70)])
def test_png_pixels_are_those_of_pillow(images: Images, size: tuple[int, int]) -> None:
    data = photo(1, *size, kind="PNG")
    wide, high = images.resized(*size)

    found = read_image(data, images, PX)

    expected = plain(data, images, (wide - PX + 1) // 2, (high - PX + 1) // 2)
    assert found.shape == (3, PX, PX)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(170, 165), (330, 320), (700, 650), (200, 1300)])
def test_jpeg_pixels_at_a_small_scale_are_nearly_those_of_pillow(size: tuple[int, int]) -> None:
    data = photo(2, *size)

    found = read_image(data, SQUASH, PX)

    assert difference(found, plain(data, SQUASH, 8, 8)) < 3  # of 255; another image: 60


def test_a_window_is_cut_out_of_the_resized_image() -> None:
    data = photo(3, kind="PNG")

    corners = {
        (0.0, 0.0): (0, 0),
        (LAST, 0.0): (16, 0),
        (0.0, LAST): (0, 16),
        (LAST,) * 2: (16, 16),
    }

    for (across, down), (left, top) in corners.items():
        found = read_image(data, SQUASH, PX, Window(across, down, mirrored=False))
        mirrored = read_image(data, SQUASH, PX, Window(across, down, mirrored=True))
        assert np.abs(found.astype(int) - plain(data, SQUASH, left, top)).max() <= 1
        assert np.array_equal(mirrored, found[:, :, ::-1])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation: int) -> None:
    image = Image.open(io.BytesIO(photo(4, 200, 160)))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(image, "JPEG", exif=exif, quality=95)
    turned = Image.open(io.BytesIO(data))
    methods = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's numbers of transpositions
    if orientation in methods:
        turned = turned.transpose(Image.Transpose(methods[orientation]))

    found = read_image(data, SQUASH, PX)

    assert difference(found, plain(encoded(turned, "PNG"), SQUASH, 8, 8)) < 2


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "GIF"), ("RGBA", "WEBP"), ("L", "PNG")],
)
def test_other_colours_than_red_green_and_blue_become_these(mode: str, kind: str) -> None:
    data = encoded(Image.open(io.BytesIO(photo(5))).convert(mode), kind)

    assert difference(read_image(data, SQUASH, PX), plain(data, SQUASH, 8, 8)) < 2


def bomb() -> bytes:
    """Return a PNG whose header claims 60,000 pixels a side."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def wide_jpeg() -> bytes:
    """Return a JPEG whose header claims 65,000 pixels a side."""
    data = bytearray(picture(32, 32, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image_undecodable"),
        (b"\xff\xd8\xff", "image_undecodable"),
        (photo(6)[:-400], "image_undecodable"),
        (b"<html>not found</html>", "image_undecodable"),
        (bomb(), "image_too_large"),
        (wide_jpeg(), "image_too_large"),
    ],
)
def test_a_bad_image_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(BadSampleError, match=reason):
        read_image(data, SQUASH, PX)


def test_a_strip_that_would_be_resized_to_a_bomb_is_too_large() -> None:
    strip = picture(4000, 1)
    images = Images(resize_px=80, keep_aspect=True, max_pixels=1_000_000)

    with pytest.raises(BadSampleError, match="image_too_large"):
        read_image(strip, images, PX)
    assert read_image(strip, SQUASH, PX).shape == (3, PX, PX)


def is_whole(data: bytes) -> bool:
    """Say whether Pillow alone reads a file of a kind that browsers show."""
    with warnings.catch_warnings(action="ignore"):
        try:
            Image.open(io.BytesIO(data), formats=FORMATS).load()
        except Exception:  # of many kinds
            return False
    return True


def test_hostile_files_are_bad_or_are_read_as_pillow_reads_them() -> None:
    folder = SHARED_DATA / "badimg"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/badimg")
    files = sorted((folder / "files").iterdir())
    images = Images(resize_px=80, max_pixels=20_000_000)
    reasons, missed = Counter[str](), []

    for file in files:
        data = file.read_bytes()
        try:
            assert read_image(data, images, PX).shape == (3, PX, PX)
        except BadSampleError as reason:
            reasons[str(reason)] += 1
            missed += [file.name] * is_whole(data)

    assert missed == []
    assert reasons.keys() == {"image_undecodable", "image_too_large"}
    assert len(files) - reasons.total() > 300


def test_chances_are_even_and_a_matter_of_seed_epoch_and_key() -> None:
    drawn = np.array([chances(0, 0, str(key)) for key in range(4000)])

    # the standard errors of 4,000 draws: of the mean 0.0046, of a correlation 0.016
    assert np.abs(drawn.mean(0) - 0.5).max() < 4 * 0.0046
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 4 * 0.016
    assert chances(0, 0, "a") == chances(0, 0, "a")
    assert (
        len({chances(0, 0, "a"), chances(1, 0, "a"), chances(0, 1, "a"), chances(0, 0, "b")}) == 4
    )
    assert chances(0, 0, "\ud800") == chances(0, 0, "?")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize_px": 0}, "images.resize_px must be at least 1, got 0"),
        ({"filter": "nearest"}, "images.filter must be bicubic or bilinear, got 'nearest'"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Images(**changes)
