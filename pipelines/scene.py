"""The scenes of the sample corpus, in words and in pixels: one coloured shape on a background.

A `Scene` is what is true of a picture, so its caption is a true caption. The picture also varies
in what no caption says (place, tilt, tint, texture, grain), so that no two pictures are alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.float32]
Outline = npt.NDArray[np.float64]

# Red, green and blue, 0 to 255.
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (205, 25, 30),
    "orange": (250, 130, 10),
    "yellow": (250, 222, 30),
    "green": (25, 200, 75),
    "blue": (25, 60, 200),
    "purple": (135, 40, 165),
}
# Radius as a share of the picture's shorter side, lowest and highest.
SIZES: Mapping[str, tuple[float, float]] = {"small": (0.16, 0.20), "large": (0.33, 0.38)}
# Factors on red, green and blue.
LIGHTS: Mapping[str, tuple[float, float, float]] = {
    "bright sunlight": (1.15, 1.13, 1.08),
    "soft light": (0.93, 0.93, 0.95),
    "evening light": (0.76, 0.71, 0.66),
}
PLACES: Mapping[str, str] = {
    "sky": "against a cloudy sky",
    "grass": "on the grass",
    "wall": "against a grey wall",
    "wood": "on wooden boards",
}
# So many that in 6,000 rows no caption is on more than 10 pictures, which ALIGN's rule forbids.
# fastText's lid.176.ftz calls each of the 8,640 captions English, with a score of 0.53 or more.
WORDINGS = (
    "Here is a {size} {colour} {shape} {place}",
    "A photo of a {size} {colour} {shape} {place}",
    "The {colour} {shape} is {place}",
    "There is a {size} {colour} {shape} {place}",
    "This photo shows a {size} {colour} {shape} {place}",
    "Someone has left a {size} {colour} {shape} {place}",
    "Have a look at the {size} {colour} {shape} {place}",
    "This {colour} {shape} {place} looks rather {size}",
    "The {size} {colour} {shape} {place} in {light}",
    "A {size} {colour} {shape} seen {place} in {light}",
    "We found a {size} {colour} {shape} {place} in {light}",
    "In {light} we saw a {size} {colour} {shape} {place}",
    "Photo of a {size} {colour} {shape} in {light} {place}",
)

# Textures are windows of squares of this side, so no picture may be longer.
TEXTURE_PX = 1024
# Shapes are drawn this many times larger and averaged down, which smooths their edges.
OVERSAMPLING = 3


# A wording, and its words in the order of `SHAPES`, `COLOURS` and `PLACES`. The colours are nouns
# ("of red colour"), so that no ending has to agree with the shape.
FOREIGN: Mapping[str, tuple[str, str, str, str]] = {
    "de": (
        "Auf dem Bild sieht man {shape} in {colour} {place}",
        "einen Kreis|ein Quadrat|ein Dreieck|einen Stern|ein Herz|ein Kreuz|einen Ring|einen Mond",
        "Rot|Orange|Gelb|Grün|Blau|Violett",
        "vor bewölktem Himmel|auf der Wiese|vor einer grauen Wand|auf Holzbrettern",
    ),
    "fr": (
        "Cette photo montre {shape} de couleur {colour} {place}",
        "un cercle|un carré|un triangle|une étoile|un cœur|une croix|un anneau|une lune",
        "rouge|orange|jaune|verte|bleue|violette",
        "devant un ciel nuageux|dans l'herbe|contre un mur gris|sur des planches en bois",
    ),
    "es": (
        "En la imagen se ve {shape} de color {colour} {place}",
        "un círculo|un cuadrado|un triángulo|una estrella|un corazón|una cruz|un anillo|una luna",
        "rojo|naranja|amarillo|verde|azul|morado",
        "ante un cielo nublado|sobre la hierba|contra una pared gris|sobre tablas de madera",
    ),
    "ru": (
        "Снимок показывает предмет: {shape} {colour} цвета {place}",
        "круг|квадрат|треугольник|звезда|сердце|крест|кольцо|луна",
        "красного|оранжевого|жёлтого|зелёного|синего|фиолетового",
        "на фоне облачного неба|на траве|возле серой стены|на деревянных досках",
    ),
    "ja": (
        "{place}にある{colour}の{shape}の写真です",
        "円|正方形|三角形|星|ハート|十字|輪|月",
        "赤色|オレンジ色|黄色|緑色|青色|紫色",
        "曇り空の前|草の上|灰色の壁の前|木の板の上",
    ),
    "zh": (
        "这张照片里{place}有一个{colour}的{shape}",
        "圆形|正方形|三角形|星星|心形|十字|圆环|月亮",
        "红色|橙色|黄色|绿色|蓝色|紫色",
        "多云的天空前|草地上|灰色的墙前|木板上",
    ),
    "ko": (
        "{place} 있는 {colour} {shape} 사진입니다",
        "원|정사각형|삼각형|별|하트|십자가|고리|달",
        "빨간색|주황색|노란색|초록색|파란색|보라색",
        "흐린 하늘 앞에|잔디 위에|회색 벽 앞에|나무 판자 위에",
    ),
    "ar": (
        "هذه صورة {shape} باللون {colour} {place}",
        "دائرة|مربع|مثلث|نجمة|قلب|صليب|حلقة|قمر",
        "الأحمر|البرتقالي|الأصفر|الأخضر|الأزرق|البنفسجي",
        "أمام سماء غائمة|على العشب|أمام جدار رمادي|على ألواح خشبية",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is true of one picture, and which of `WORDINGS` says it."""

    shape: str
    colour: str
    background: str
    size: str
    light: str
    wording: int

    @property
    def caption(self) -> str:
        """7 to 13 English words that are true of the picture."""
        return WORDINGS[self.wording].format(
            shape=self.shape,
            colour=self.colour,
            size=self.size,
            light=self.light,
            place=PLACES[self.background],
        )

    @property
    def columns(self) -> dict[str, str]:
        """What a sample tells of it besides a caption."""
        names = ("shape", "colour", "background", "size")
        return {name: getattr(self, name) for name in names}

    def caption_in(self, language: str) -> str:
        """Say in one of the `FOREIGN` languages what shape, of which colour, is where."""
        wording, shapes, colours, places = FOREIGN[language]
        return wording.format(
            shape=shapes.split("|")[list(SHAPES).index(self.shape)],
            colour=colours.split("|")[list(COLOURS).index(self.colour)],
            place=places.split("|")[list(PLACES).index(self.background)],
        )


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw every part of a scene independently and uniformly."""

    def pick(names: Mapping[str, object]) -> str:
        return list(names)[rng.integers(len(names))]

    return Scene(
        shape=pick(SHAPES),
        colour=pick(COLOURS),
        background=pick(PLACES),
        size=pick(SIZES),
        light=pick(LIGHTS),
        wording=int(rng.integers(len(WORDINGS))),
    )


def render(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Paint `scene` in `width` x `height` pixels; `rng` draws all that the scene leaves open.

    Args:
        scene: What must be seen.
        width: In pixels, at most `TEXTURE_PX`.
        height: In pixels, at most `TEXTURE_PX`.
        rng: Source of place, tilt, tint, texture and noise.
    """
    pixels = _BACKGROUNDS[scene.background](height, width, rng)
    cover, shadow = _covers(scene, width, height, rng)
    tint = _colour(*COLOURS[scene.colour]) + rng.normal(0, 9, 3).astype(np.float32)
    shading = 1 + np.float32(0.1) * _window(_texture(3, 3), height, width, rng)
    pixels *= 1 - np.float32(0.5) * shadow
    pixels += cover * (tint * shading - pixels)
    pixels *= _colour(*LIGHTS[scene.light]) * np.float32(rng.uniform(0.94, 1.06))
    grain = _window(_texture(TEXTURE_PX, TEXTURE_PX), height, width, rng)
    pixels += np.float32(rng.uniform(1, 3)) * grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _covers(
    scene: Scene, width: int, height: int, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """Return how much of each pixel the shape covers, 0 to 1, and how much its shadow does."""
    radius = max(2, round(rng.uniform(*SIZES[scene.size]) * min(width, height)))
    stamp = _stamp(scene.shape, radius, tilt=rng.uniform(-0.3, 0.3))
    left = round(rng.uniform(0.04, 0.96) * (width - 2 * radius))
    top = round(rng.uniform(0.04, 0.96) * (height - 2 * radius))
    covers = []
    for offset in (0, radius // 9):
        canvas = Image.new("L", (width, height))
        canvas.paste(stamp, (left + offset, top + offset))
        covers.append(np.asarray(canvas, np.float32)[..., None] / np.float32(255))
    return covers[0], covers[1]


def _stamp(shape: str, radius: int, *, tilt: float) -> Image.Image:
    """Draw a shape, white on black, that fills a square of twice the radius."""
    side = 2 * radius * OVERSAMPLING
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    stamp = Image.new("L", (side, side))
    draw = ImageDraw.Draw(stamp)
    for outline, fill in zip(SHAPES[shape], (255, 0), strict=False):
        draw.polygon(((outline @ turn + 1) * side / 2).ravel().tolist(), fill=fill)
    return stamp.reduce(OVERSAMPLING)


def _corners(num: int, *radii: float, centre: tuple[float, float] = (0.0, 0.0)) -> Outline:
    """Place corners at equal angles, the first one straight up, taking `radii` in turn."""
    angles = 2 * np.pi * np.arange(num) / num
    lengths = np.resize(radii, num)
    return np.stack([lengths * np.sin(angles), -lengths * np.cos(angles)], axis=1) + centre


def _heart() -> Outline:
    turns = np.linspace(0, 2 * np.pi, 48)
    across = 16 * np.sin(turns) ** 3
    down = -13 * np.cos(turns) + 5 * np.cos(2 * turns) + 2 * np.cos(3 * turns) + np.cos(4 * turns)
    return np.stack([across, down - 2.5], axis=1) / 18


def _cross() -> Outline:
    arm = np.array([[-0.36, -0.36], [-0.36, -1.0], [0.36, -1.0]])
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, turn) for turn in range(4)])


# An outline, and for some shapes a hole in it, in units of the radius; y points down.
SHAPES: Mapping[str, tuple[Outline, ...]] = {
    "circle": (_corners(48, 0.95),),
    "square": (_corners(8, 0.8, 0.8 * 2**0.5),),
    "triangle": (_corners(3, 1.1, centre=(0.0, 0.15)),),
    "star": (_corners(10, 1.05, 0.45),),
    "heart": (_heart(),),
    "cross": (_cross(),),
    "ring": (_corners(48, 0.95), _corners(48, 0.55)),
    "moon": (_corners(48, 0.98), _corners(48, 0.8, centre=(0.5, -0.15))),
}


@cache
def _texture(columns: int, rows: int) -> Pixels:
    """Stretch `rows` x `columns` random numbers, mean 0 and spread 1, over a texture square."""
    rng = np.random.Generator(np.random.PCG64([columns, rows]))
    grid = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    return np.asarray(grid.resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.BICUBIC))


def _window(texture: Pixels, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Cut a random window out of `texture`, with an axis for colour."""
    top = rng.integers(TEXTURE_PX - height + 1)
    left = rng.integers(TEXTURE_PX - width + 1)
    return texture[top : top + height, left : left + width, None]


def _sky(height: int, width: int, rng: np.random.Generator) -> Pixels:
    haze = _window(_texture(14, 28), height, width, rng) + np.float32(rng.uniform(-0.4, 0.4))
    clouds: Pixels = np.clip(haze, 0, 1)
    descent: Pixels = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    blue: Pixels = _colour(105, 165, 225) + descent * _colour(75, 50, 15)
    return blue + clouds * (_colour(240, 243, 247) - blue)


def _grass(height: int, width: int, rng: np.random.Generator) -> Pixels:
    blades = _window(_texture(TEXTURE_PX // 2, 96), height, width, rng)
    patches = _window(_texture(24, 24), height, width, rng)
    return _colour(72, 105, 45) + blades * _colour(20, 26, 14) + patches * _colour(12, 8, 4)


def _wall(height: int, width: int, rng: np.random.Generator) -> Pixels:
    stains = _window(_texture(18, 18), height, width, rng)
    return _colour(1, 1, 1) * np.float32(rng.uniform(120, 165)) + stains * _colour(7, 7, 7)


def _wood(height: int, width: int, rng: np.random.Generator) -> Pixels:
    grain = _window(_texture(20, TEXTURE_PX // 3), height, width, rng)
    board, within = np.divmod(np.arange(height) + rng.integers(height), max(4, height // 5))
    tones = rng.normal(1, 0.1, board[-1] + 1)[board] * np.where(within < 2, 0.5, 1)
    planks: Pixels = _colour(150, 106, 66) + grain * _colour(13, 12, 10)
    return planks * tones[:, None, None].astype(np.float32)


def _colour(red: float, green: float, blue: float) -> Pixels:
    return np.array([red, green, blue], np.float32)


_BACKGROUNDS: Mapping[str, Callable[[int, int, np.random.Generator], Pixels]] = {
    "sky": _sky,
    "grass": _grass,
    "wall": _wall,
    "wood": _wood,
}
