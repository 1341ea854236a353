"""How images are brought to the size of a model, in training and in evaluation."""

from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from filters.parsing import check_bounds
from filters.recipe import Images as Checks

FILTERS = ("bicubic", "bilinear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """How an image becomes pixels; a recipe's `[loader.images]`.

    Training cuts a random window of a model's size out of the resized image, and evaluation the
    central one; all else is the same in both.

    Raises:
        RecipeError: A size is not positive, or there is no such filter.
    """

    resize_px: int = 346
    """The side, or the shorter side, that an image is resized to.  Source: ALIGN, section 5."""
    keep_aspect: bool = False
    """Resize the shorter side, as CLIP does; else both, to a square, as ALIGN's code does it.

    Source: COYO-ALIGN, the public training code of ALIGN's recipe, squeezes to 346 x 346.
    """
    filter: str = "bicubic"
    """By which pixels are weighed, `bicubic` or `bilinear`, both of a size to prevent aliasing."""
    mirror: bool = True
    """Mirror half of the images.  Source: ALIGN, section 5."""
    max_pixels: int = Checks().max_pixels
    """An image whose header claims more is not decoded; the default is the filter job's."""

    def __post_init__(self) -> None:
        rules = (
            ("resize_px", self.resize_px >= 1, "at least 1"),
            ("max_pixels", self.max_pixels >= 1, "at least 1"),
            ("filter", self.filter in FILTERS, " or ".join(FILTERS)),
        )
        check_bounds(self, "images", rules)

    def resized(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Return the width and the height that an image is resized to, of those that it has."""
        if not self.keep_aspect:
            return self.resize_px, self.resize_px
        shorter = min(width_px, height_px)
        return round(width_px * self.resize_px / shorter), round(
            height_px * self.resize_px / shorter
        )


class Window(NamedTuple):
    """What a model sees of a resized image."""

    across: float
    """Where the window lies, from 0, on the left, to 1, without 1."""
    down: float
    mirrored: bool


CENTRE = Window(0.5, 0.5, mirrored=False)
"""What evaluation sees."""


class Chances(NamedTuple):
    """Numbers from 0 to 1, without 1, for what is random of a sample in an epoch."""

    across: float
    down: float
    mirror: float
    caption: float


def chances(seed: int, epoch: int, key: str) -> Chances:
    """Return a sample's random numbers, whichever thread, rank or run asks for them."""
    digest = xxhash.xxh3_128_intdigest(f"{seed} {epoch} {key}".encode("utf-8", "replace"))
    return Chances(*((digest >> 32 * place & 0xFFFFFFFF) / 2**32 for place in range(4)))
