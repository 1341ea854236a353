"""Copies of an image as a crawl would hold them: encoded again, scaled, cut, turned, written on.

A copy is `benign` if it shows all of the picture or nearly so (a twentieth of a side may be gone),
upright, with nothing added, and if it looks the same to a person at a glance: what servers, viewers
and data tools do of themselves.  All others are what people do on purpose.

Equal arguments give equal bytes, with the same Pillow.
"""

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from pipelines.images import guarded, open_image
from recaption.pictures import upright

Picture = Image.Image
Change = Callable[[Picture, Any, np.random.Generator], Picture]

_JPEG = {"format": "JPEG", "quality": 85}
_ORIENTATION = 274
_LONGEST_PX = 2048
"""Larger images are scaled down first, as crawls hold them; WebP has no more than 16,383."""
_CAPTION = "when you finally find the photo that you were looking for"
_MARK = "© photos.example"
_Turn = Image.Transpose


@dataclass(frozen=True, slots=True)
class Transform:
    """One way to copy an image, of one strength."""

    name: str
    strength: str
    benign: bool
    change: Change
    value: Any
    """The strength, as `change` wants it."""
    saved: Mapping[str, Any] = field(default_factory=lambda: _JPEG)
    """What Pillow's `save` is told."""

    def copy(self, image: Picture, seed: int) -> bytes:
        """Return the file of a copy; of an RGB image, which `decoded` returns."""
        what = f"{self.name} {self.strength}".encode()
        chance = np.random.default_rng([seed, zlib.crc32(what), zlib.crc32(image.tobytes())])
        file = io.BytesIO()
        self.change(image, self.value, chance).save(file, **self.saved)
        return file.getvalue()


def decoded(data: bytes, max_pixels: int) -> Picture | None:
    """Decode an image to copy it, upright by its EXIF, in RGB; None where it cannot be decoded."""

    def decode() -> Picture:
        with open_image(data, max_pixels) as image:
            picture = upright(image).convert("RGB")
        picture.thumbnail((_LONGEST_PX, _LONGEST_PX))
        return picture

    return guarded(decode, None)


def _same(image: Picture, _: Any, __: np.random.Generator) -> Picture:
    return image


def _stored_turned(image: Picture, turn: Image.Transpose, _: np.random.Generator) -> Picture:
    return image.transpose(turn)


def _scale(image: Picture, factors: tuple[float, float], _: np.random.Generator) -> Picture:
    size = (max(1, round(image.width * factors[0])), max(1, round(image.height * factors[1])))
    return image.resize(size, Image.Resampling.LANCZOS)


def _square(image: Picture, _: Any, __: np.random.Generator) -> Picture:
    return image.resize((max(image.size),) * 2, Image.Resampling.BICUBIC)


def _crop(image: Picture, share: float, _: np.random.Generator) -> Picture:
    width, height = (max(1, round(side * (1 - share))) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _crop_side(image: Picture, share: float, chance: np.random.Generator) -> Picture:
    box = [0, 0, image.width, image.height]
    side = int(chance.integers(4))
    length = image.size[side % 2]
    gone = min(length - 1, round(length * share))
    box[side] += gone if side < 2 else -gone
    return image.crop((box[0], box[1], box[2], box[3]))


def _rotate(image: Picture, degrees: float, chance: np.random.Generator) -> Picture:
    angle = degrees * chance.choice([-1, 1])
    return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")


def _border(image: Picture, share: float, _: np.random.Generator) -> Picture:
    return ImageOps.expand(image, max(1, round(share * min(image.size))), "black")


def _letterbox(image: Picture, share: float, _: np.random.Generator) -> Picture:
    bar = max(1, round(share * image.height))
    return ImageOps.expand(image, (0, bar), "black")


def _caption_strip(image: Picture, share: float, _: np.random.Generator) -> Picture:
    strip = max(4, round(share * image.height))
    page = ImageOps.expand(image, (0, 0, 0, strip), "white")
    _write(page, _CAPTION, image.height + strip // 2, round(0.5 * strip), "black")
    return page


def _meme(image: Picture, share: float, _: np.random.Generator) -> Picture:
    page, size = image.copy(), max(4, round(share * image.height))
    for text, middle in (("NOBODY:", size), ("MY CAMERA ROLL", image.height - size)):
        _write(page, text, middle, size, "white", stroke="black")
    return page


def _watermark(image: Picture, times: int, _: np.random.Generator) -> Picture:
    marks = Image.new("L", image.size)
    for n in range(times):
        middle = round(image.height * (n + 0.5) / times)
        _write(marks, _MARK, middle, max(4, image.width // 10), 110)
    return Image.composite(Image.new("RGB", image.size, "white"), image, marks)


def _write(page: Picture, text: str, middle: int, size: int, ink: Any, stroke: Any = None) -> None:
    """Write a line across the page, no wider than it."""
    fits = round(1.5 * page.width / len(text))
    font = ImageFont.load_default(max(4, min(size, fits)))
    width = max(1, size // 12) if stroke else 0
    ImageDraw.Draw(page).text(
        (page.width // 2, middle), text, ink, font, "mm", stroke_width=width, stroke_fill=stroke
    )


def _enhance(kind: Any, image: Picture, factor: float, _: np.random.Generator) -> Picture:
    return kind(image).enhance(factor)


def _gamma(image: Picture, gamma: float, _: np.random.Generator) -> Picture:
    levels = 255 * (np.arange(256) / 255) ** gamma
    return image.point(np.rint(levels).astype(int).tolist() * 3)


def _hue(image: Picture, degrees: float, _: np.random.Generator) -> Picture:
    hue, saturation, value = image.convert("HSV").split()
    turned = ImageChops.add_modulo(hue, Image.new("L", image.size, round(degrees / 360 * 256)))
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _gray(image: Picture, _: Any, __: np.random.Generator) -> Picture:
    return image.convert("L")


def _blur(image: Picture, share: float, _: np.random.Generator) -> Picture:
    return image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def _noise(image: Picture, levels: float, chance: np.random.Generator) -> Picture:
    noisy = np.asarray(image, np.float32) + levels * chance.standard_normal(
        (image.height, image.width, 3), np.float32
    )
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def _sharpen(image: Picture, percent: int, _: np.random.Generator) -> Picture:
    return image.filter(ImageFilter.UnsharpMask(2, percent))


def _screenshot(image: Picture, share: float, chance: np.random.Generator) -> Picture:
    """Put the image on a page with a browser's bars above and text beneath."""
    width, height = (max(16, round(side / share)) for side in image.size)
    page = Image.new("RGB", (width, height + 8), "white")
    draw, bar = ImageDraw.Draw(page), max(4, (height - image.height) // 2)
    draw.rectangle((0, 0, width, bar // 2), "#dee1e6")
    draw.rectangle((0, bar // 2, width, bar), "#f1f3f4")
    inner = (width // 8, bar * 5 // 8, width * 7 // 8, max(bar * 5 // 8, bar * 7 // 8))
    draw.rectangle(inner, "white", "#c8ccd1")
    left = (width - image.width) // 2 if share > 0.7 else width // 20
    page.paste(image, (left, bar + 4))
    line = bar + image.height + 12
    while line + 3 < page.height:
        draw.rectangle(
            (left, line, left + int(chance.integers(width // 3, width)), line + 2), "#888"
        )
        line += 8
    return page


def _ladder(
    name: str, change: Change, benign: int, strengths: Mapping[str, Any]
) -> list[Transform]:
    """Return the strengths of a change, of which the first `benign` ones are."""
    steps = enumerate(strengths.items())
    return [Transform(name, label, n < benign, change, value) for n, (label, value) in steps]


def _encoded(kind: str, qualities: tuple[int, ...], benign: int) -> list[Transform]:
    return [
        Transform(kind, f"quality {q}", n < benign, _same, q, {"format": kind, "quality": q})
        for n, q in enumerate(qualities)
    ]


def _tagged(strength: str, orientation: int, turn: Image.Transpose) -> Transform:
    """Return a copy whose pixels lie turned, and whose EXIF says so."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    saved = _JPEG | {"exif": exif.tobytes()}
    return Transform("EXIF orientation", strength, True, _stored_turned, turn, saved)


def _levels(kind: Any) -> Change:
    return partial(_enhance, kind)


_LEVELS = {"80 %": 0.8, "120 %": 1.2, "50 %": 0.5, "150 %": 1.5}

TRANSFORMS = (
    *_encoded("JPEG", (90, 70, 50, 30, 10), benign=4),
    *_encoded("WEBP", (80, 50, 20), benign=3),
    Transform("PNG", "lossless", True, _same, None, {"format": "PNG", "compress_level": 1}),
    _tagged("mirrored", 2, _Turn.FLIP_LEFT_RIGHT),
    _tagged("upside down", 3, _Turn.ROTATE_180),
    _tagged("quarter turn", 6, _Turn.ROTATE_90),
    *_ladder(
        "rescale",
        _scale,
        5,
        {f"{round(100 * x)} %": (x, x) for x in (0.75, 0.5, 0.25, 1.5, 2.0)},
    ),
    *_ladder("stretch", _scale, 2, {"width 90 %": (0.9, 1.0), "width 70 %": (0.7, 1.0)}),
    *_ladder("stretch", _square, 1, {"to a square": None}),
    *_ladder("grayscale", _gray, 1, {"": None}),
    *_ladder("brightness", _levels(ImageEnhance.Brightness), 2, _LEVELS),
    *_ladder("contrast", _levels(ImageEnhance.Contrast), 2, _LEVELS),
    *_ladder("saturation", _levels(ImageEnhance.Color), 2, _LEVELS),
    *_ladder("gamma", _gamma, 2, {"0.8": 0.8, "1.25": 1.25, "0.5": 0.5, "2": 2.0}),
    *_ladder("hue", _hue, 1, {"10°": 10, "60°": 60, "180°": 180}),
    *_ladder("blur", _blur, 2, {"0.5 % of side": 0.005, "1 % of side": 0.01, "3 % of side": 0.03}),
    *_ladder("sharpen", _sharpen, 1, {"50 %": 50, "300 %": 300}),
    *_ladder("noise", _noise, 2, {"5 levels": 5.0, "10 levels": 10.0, "30 levels": 30.0}),
    *_ladder("crop", _crop, 1, {"5 %": 0.05, "10 %": 0.1, "20 %": 0.2, "30 %": 0.3}),
    *_ladder("crop one side", _crop_side, 1, {"5 %": 0.05, "10 %": 0.1, "20 %": 0.2}),
    *_ladder(
        "flip",
        _stored_turned,
        0,
        {"horizontal": _Turn.FLIP_LEFT_RIGHT, "vertical": _Turn.FLIP_TOP_BOTTOM},
    ),
    *_ladder(
        "turn",
        _stored_turned,
        0,
        {"90°": _Turn.ROTATE_270, "180°": _Turn.ROTATE_180, "270°": _Turn.ROTATE_90},
    ),
    *_ladder("rotate", _rotate, 0, {"1°": 1, "3°": 3, "5°": 5, "10°": 10}),
    *_ladder("border", _border, 0, {"2 %": 0.02, "5 %": 0.05, "10 %": 0.1}),
    *_ladder("letterbox", _letterbox, 0, {"10 %": 0.1, "25 %": 0.25}),
    *_ladder("caption strip", _caption_strip, 0, {"10 %": 0.1, "20 %": 0.2}),
    *_ladder("meme text", _meme, 0, {"8 %": 0.08, "15 %": 0.15}),
    *_ladder("watermark", _watermark, 0, {"one": 1, "five": 5}),
    *_ladder("screenshot", _screenshot, 0, {"80 % of page": 0.8, "50 % of page": 0.5}),
)
"""Every transform and strength, the benign ones of each kind first."""
