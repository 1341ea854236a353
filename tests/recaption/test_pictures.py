"""Reading images: upright, in RGB, whatever their mode."""

import json
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines.images import decodes
from recaption.pictures import read_rgb
from tests.recaption.drawings import drawing, encoded

BAD = Path(__file__).parents[3] / "shared" / "data" / "badimg"
MAX_PIXELS = 4_000_000


def test_a_picture_is_turned_as_its_exif_says() -> None:
    upright = drawing(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees, clockwise
    lying = encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)

    assert np.array_equal(np.asarray(read_rgb(lying)), np.asarray(upright))


def test_damaged_exif_leaves_the_picture_as_it_is() -> None:
    upright = drawing(0)
    lying = encoded(upright, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")

    assert np.array_equal(np.asarray(read_rgb(lying)), np.asarray(upright))


def test_exif_on_which_pillow_fails_leaves_the_picture_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Image.Image) -> None:
        raise struct.error

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)

    assert np.array_equal(np.asarray(read_rgb(encoded(drawing(0)))), np.asarray(drawing(0)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = read_rgb(encoded(drawing(0).convert(mode)))

    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_a_print_jpeg_becomes_rgb() -> None:
    image = read_rgb(encoded(drawing(0).convert("CMYK"), "JPEG", quality=95))

    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, int) - np.asarray(drawing(0), int)).mean() < 10


def test_deep_grey_keeps_its_shades() -> None:
    shades = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)

    image = np.asarray(read_rgb(encoded(Image.fromarray(shades))))

    assert np.array_equal(image, np.repeat((shades >> 8).astype(np.uint8)[:, :, None], 3, 2))


def test_a_picture_larger_than_pillows_own_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert read_rgb(encoded(drawing(0))).size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_do_not_bring_the_limit_back_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    filters = list(warnings.filters)
    image = encoded(drawing(0))

    with ThreadPoolExecutor(8) as pool:
        sizes = set(pool.map(lambda _: read_rgb(image).size, range(2000)))

    assert sizes == {(40, 30)}
    assert Image.MAX_IMAGE_PIXELS == 10
    assert warnings.filters == filters


@pytest.mark.skipif(not BAD.is_dir(), reason="needs ../shared/data/badimg")
def test_odd_files_that_pillow_decodes_are_read() -> None:
    lines = (BAD / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    files = [BAD / "files" / json.loads(line)["file"] for line in lines]
    decodable = [data for data in map(Path.read_bytes, files) if decodes(data, MAX_PIXELS)]

    modes = [read_rgb(data).mode for data in decodable]

    assert len(modes) > 300
    assert set(modes) == {"RGB"}
