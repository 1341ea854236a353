"""Copies: what a crawl does to an image, the same every time."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines.copies import TRANSFORMS, Transform, decoded
from tests.shards import photo

LIMIT = 10**7
NEAR = 10
"""Levels that JPEG's coarse colours change, on average, at most; another picture is 40 away."""


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def copies_of(name: str) -> dict[str, Image.Image]:
    """Return the copies of a picture of 120 by 80 by one transform, by strength."""
    image = decoded(photo(1, 120, 80), LIMIT)
    assert image is not None
    return {t.strength: opened(t.copy(image, 0)) for t in TRANSFORMS if t.name == name}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.int16)


def test_each_transform_and_strength_is_there_once() -> None:
    kinds = [(transform.name, transform.strength) for transform in TRANSFORMS]

    assert len(set(kinds)) == len(kinds) == 77


def test_no_copy_is_another_one_or_the_image_itself() -> None:
    data = photo(1, 120, 80)
    image = decoded(data, LIMIT)

    files = [data, *(transform.copy(image, 0) for transform in TRANSFORMS)]

    assert len(set(files)) == len(files)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: f"{t.name} {t.strength}")
def test_equal_arguments_give_equal_bytes_that_decode(transform: Transform) -> None:
    first, again = (decoded(photo(2, 90, 120), LIMIT) for _ in range(2))

    data = transform.copy(first, 5)

    assert data == transform.copy(again, 5)
    assert decoded(data, LIMIT) is not None
    assert opened(data).format == {"WEBP": "WEBP", "PNG": "PNG"}.get(transform.name, "JPEG")


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (32, 32)])
def test_no_image_is_too_small_to_copy(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "teal")

    sizes = [opened(transform.copy(image, 0)).size for transform in TRANSFORMS]

    assert min(min(size) for size in sizes) >= 1


def test_chance_comes_from_the_seed_and_the_image() -> None:
    noise = next(t for t in TRANSFORMS if t.name == "noise")
    one, other = (decoded(photo(n, 60, 60), LIMIT) for n in (1, 2))

    assert noise.copy(one, 0) != noise.copy(one, 1)
    added = [pixels(opened(noise.copy(image, 0))) - pixels(image) for image in (one, other)]
    assert np.corrcoef(*(part.ravel() for part in added))[0, 1] < 0.1


def test_scales_and_crops_have_their_sizes() -> None:
    assert {s: image.size for s, image in copies_of("rescale").items()} == {
        "75 %": (90, 60),
        "50 %": (60, 40),
        "25 %": (30, 20),
        "150 %": (180, 120),
        "200 %": (240, 160),
    }
    assert {s: image.size for s, image in copies_of("stretch").items()} == {
        "width 90 %": (108, 80),
        "width 70 %": (84, 80),
        "to a square": (120, 120),
    }
    assert {s: image.size for s, image in copies_of("crop").items()} == {
        "5 %": (114, 76),
        "10 %": (108, 72),
        "20 %": (96, 64),
        "30 %": (84, 56),
    }
    assert {image.size for image in copies_of("crop one side").values()} <= {
        *((114, 80), (108, 80), (96, 80)),
        *((120, 76), (120, 72), (120, 64)),
    }


@pytest.mark.parametrize(
    ("name", "strength", "turn"),
    [
        ("flip", "horizontal", Image.Transpose.FLIP_LEFT_RIGHT),
        ("flip", "vertical", Image.Transpose.FLIP_TOP_BOTTOM),
        ("turn", "90°", Image.Transpose.ROTATE_270),
        ("turn", "180°", Image.Transpose.ROTATE_180),
        ("turn", "270°", Image.Transpose.ROTATE_90),
    ],
)
def test_turns_go_the_way_that_they_say(name: str, strength: str, turn: Image.Transpose) -> None:
    image = decoded(photo(1, 120, 80), LIMIT)

    back = pixels(copies_of(name)[strength])

    assert np.abs(back - pixels(image.transpose(turn))).mean() < NEAR


@pytest.mark.parametrize("strength", ["mirrored", "upside down", "quarter turn"])
def test_a_copy_that_lies_turned_says_so_in_its_exif(strength: str) -> None:
    image = decoded(photo(1, 120, 80), LIMIT)

    copy = copies_of("EXIF orientation")[strength]

    shown = ImageOps.exif_transpose(copy)
    assert np.abs(pixels(shown) - pixels(image)).mean() < NEAR
    assert copy.size == ((80, 120) if strength == "quarter turn" else (120, 80))
    assert strength == "quarter turn" or np.abs(pixels(copy) - pixels(image)).mean() > NEAR


def test_benign_copies_look_much_more_like_the_image_than_others_do() -> None:
    image = decoded(photo(3, 160, 120), LIMIT)
    apart = {True: [], False: []}

    for transform in TRANSFORMS:
        copy = decoded(transform.copy(image, 0), LIMIT)
        apart[transform.benign].append(
            np.abs(pixels(copy.resize(image.size)) - pixels(image)).mean()
        )

    assert np.median(apart[True]) * 3 < np.median(apart[False])


def test_a_large_image_is_scaled_down_first() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3000, 30)).save(file, "PNG")

    image = decoded(file.getvalue(), LIMIT)

    assert image.size == (2048, 20)


def test_an_image_is_copied_as_people_see_it() -> None:
    turned = next(t for t in TRANSFORMS if t.strength == "quarter turn")
    image = decoded(photo(1, 120, 80), LIMIT)

    seen = decoded(turned.copy(image, 0), LIMIT)

    assert np.abs(pixels(seen) - pixels(image)).mean() < NEAR


def test_what_cannot_be_decoded_cannot_be_copied() -> None:
    assert decoded(b"GIF89a", LIMIT) is None
    assert decoded(photo(1, 120, 80), 100) is None
