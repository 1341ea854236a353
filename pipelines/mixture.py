"""What a sample is a mixture of: which scenes it shows, and how often its captions are wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from pipelines.photographs import WORDINGS as WORDINGS_OF_CLASSES
from pipelines.photographs import Album, Photograph
from pipelines.scene import COLOURS, SHAPES, SIZES, WORDINGS, Scene, draw_scene

# Rows of each kind of noise in 1,000 rows, rounded down; the rest, 45 % of 6,000, is clean.
NOISE_PER_1000: Mapping[str, int] = {
    "spurious": 120,  # one word wrong, always the same wrong word: what CapFilt is for
    "other_image": 80,  # the caption of a neighbour
    "foreign": 24,  # 8 languages in turn
    "boilerplate": 20,  # of 6,000 rows 120: 6 texts on 20 pictures each
    "duplicate": 14,  # a clean row's bytes again, with a caption of their own
    "file_name": 12,
    "unicode": 12,  # odd characters in a true caption: 8 ways in turn
    "broken_image": 10,  # 5 ways in turn
    "cache_string": 10,
    "icon": 10,
    "too_short": 10,
    "too_long": 10,
    "failed_download": 10,
    "blank": 8,
    "number": 8,
    "strip": 8,
    "html": 6,  # hostile to a report that does not escape
    "unsafe": 6,  # an innocent picture; only its score is planted
}
# A crawl errs in the same way again and again; so each colour and shape has one wrong word.
WRONG_COLOUR = dict(zip(COLOURS, [*list(COLOURS)[3:], *list(COLOURS)[:3]], strict=True))
WRONG_SHAPE = dict(zip(SHAPES, [*list(SHAPES)[3:], *list(SHAPES)[:3]], strict=True))
# Kinds that may be asked for by their shares: "duplicate" and the hub go by numbers of their own.
# "partner" is in no crawl of ours: both words are the wrong ones, so that a text names another
# scene, again and again the same, as the spurious features of Sun et al. (NeurIPS 2025) do.
KINDS = (*(noise for noise in NOISE_PER_1000 if noise != "duplicate"), "partner")
# Those of pictures that were found: they are in the words, and need no colour and no shape.
KINDS_OF_ALBUMS = ("partner", "other_image", "boilerplate", "file_name", "cache_string", "number")


def partner_of(colour: str, shape: str) -> tuple[str, str]:
    """Return the colour and the shape that "partner" names in their place."""
    return WRONG_COLOUR[colour], WRONG_SHAPE[shape]


def _ring(colour: str, shape: str) -> tuple[tuple[str, str], ...]:
    """Return a pair, its partner, that one's partner, and so on, until it begins again."""
    pairs = [(colour, shape)]
    while (following := partner_of(*pairs[-1])) != pairs[0]:
        pairs.append(following)
    return tuple(pairs)


# 8 of the 48 pairs of a colour and a shape, each shape once, that a training corpus can do without.
# As they are each other's partners, no caption of the others, true or wrong, ever names one.
HELD_OUT = _ring("red", "circle")
COMBINATIONS: Mapping[str, frozenset[tuple[str, str]]] = {
    "all": frozenset(product(COLOURS, SHAPES)),
    "seen": frozenset(product(COLOURS, SHAPES)) - frozenset(HELD_OUT),
    "held-out": frozenset(HELD_OUT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What a sample shows, and how much of it is wrong.

    Raises:
        ValueError: A setting is out of its bounds.
    """

    shares: Mapping[str, float] | None = None
    """Of `KINDS`, from 0 to 1; the rest is clean.  None: a crawl's, as `NOISE_PER_1000`."""
    combinations: str = "all"
    """Of `COMBINATIONS`: which pairs of a colour and a shape there are."""
    size: str = ""
    """Of all shapes, one of `SIZES`; empty: both of them."""
    wordings: int | None = None
    """Of the ways to put a caption, so many of the first; None: all.  Of a scene's, the first seven
    say nothing of light."""
    side_px: int = 224
    """Of the smallest picture; the largest is a fourteenth larger."""
    album: Album | None = None
    """Pictures to show, in their order, in place of scenes that are drawn."""

    def __post_init__(self) -> None:
        shares = self.shares or {}
        kinds = KINDS_OF_ALBUMS if self.album else KINDS
        wrong = next((kind for kind in shares if kind not in kinds), None)
        if wrong is not None:
            raise ValueError(f"noise must be of {', '.join(kinds)}, got {wrong!r}; correct it")
        if self.album and (self.shares is None or self.combinations != "all" or self.size):
            raise ValueError(
                "a sample of images must be clean or have its noise told, and no combinations or "
                "size, which are of scenes; correct that"
            )
        if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1:
            told = ", ".join(f"{kind}={share:g}" for kind, share in shares.items())
            raise ValueError(f"noise must be shares of together 1 at most, got {told}; lower them")
        if self.combinations not in COMBINATIONS:
            known = ", ".join(COMBINATIONS)
            raise ValueError(f"combinations must be {known}, got {self.combinations!r}; correct it")
        if self.size not in ("", *SIZES):
            raise ValueError(f"size must be {' or '.join(SIZES)}, got {self.size!r}; correct it")
        if not 1 <= self.ways <= self.most_ways:
            raise ValueError(f"wordings must be 1 to {self.most_ways}, got {self.ways}; change it")
        if not MIN_SIDE_PX <= self.side_px <= MAX_SIDE_PX:
            raise ValueError(
                f"side-px must be {MIN_SIDE_PX} to {MAX_SIDE_PX}, got {self.side_px}; change it"
            )

    @property
    def most_ways(self) -> int:
        """How many ways there are to put a caption."""
        return len(WORDINGS_OF_CLASSES if self.album else WORDINGS)

    @property
    def ways(self) -> int:
        """How many of them the sample has."""
        return self.most_ways if self.wordings is None else self.wordings

    def shown(self, number: int, rng: np.random.Generator) -> Scene | Photograph:
        """Return what a row's picture shows: the next of the album, or a scene of the sample's."""
        if self.album:  # it is asked for more than it has where a row at its end looks for another
            found = self.album.photographs[number % len(self.album.photographs)]
            return replace(found, wording=int(rng.integers(self.ways)))
        while True:
            scene = draw_scene(rng)
            if self._has(scene):
                return scene

    def _has(self, scene: Scene) -> bool:
        pair = (scene.colour, scene.shape)
        worded = scene.wording < self.ways
        return worded and pair in COMBINATIONS[self.combinations] and self.size in ("", scene.size)


MIN_SIDE_PX, MAX_SIDE_PX = 24, 480
"""A small shape is 8 pixels wide in the smallest; the longer side of the largest is 771."""
CRAWL = Mixture()
