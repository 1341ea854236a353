"""Decide what each row of the sample holds: which noise it has, and what its alt-text says.

Which noise a row has depends on (seed, rows), all else on (seed, row): the same parameters give
the same rows.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Any

import numpy as np

from pipelines.mixture import (
    CRAWL,
    NOISE_PER_1000,
    WRONG_COLOUR,
    WRONG_SHAPE,
    Mixture,
    partner_of,
)
from pipelines.photographs import Photograph
from pipelines.scene import FOREIGN, WORDINGS, Scene

# One placeholder picture under so many different texts that ALIGN's limit, 1,000, is exceeded;
# left out of a sample of which it would be more than about a quarter.
HUB_ROWS = 1050
HUB_MIN_SAMPLE_ROWS = 4000
COPIES_PER_DUPLICATE = 3
# ALIGN drops a text on more than 10 pictures; a small sample has fewer texts, not fewer of each.
PICTURES_PER_BOILERPLATE = 12


def count_noise(rows: int, mixture: Mixture = CRAWL) -> dict[str, int]:
    """Return how many of `rows` rows are of each kind of noise, "clean" first, or of that alone."""
    if mixture.shares is not None:  # what rounding takes away, in binary, does not count
        asked = {noise: int(rows * share + 1e-6) for noise, share in mixture.shares.items()}
        return {"clean": rows - sum(asked.values()), **asked}
    counts = {noise: rows * share // 1000 for noise, share in NOISE_PER_1000.items()}
    counts["hub"] = HUB_ROWS if rows >= HUB_MIN_SAMPLE_ROWS else 0
    return {"clean": rows - sum(counts.values()), **counts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All that decides what a row holds, before anything of it is drawn."""

    seed: int
    number: int
    noise: str
    turn: int  # which of the rows of its noise this is, from 0
    siblings: int  # how many rows of its noise there are
    picture: int  # number of the row whose picture this row has
    mixture: Mixture = CRAWL

    @property
    def shown(self) -> Scene | Photograph:
        """The truth about the row's picture."""
        return self.shown_by(self.picture)

    def shown_by(self, number: int) -> Scene | Photograph:
        """Return the truth about another row's picture."""
        return self.mixture.shown(number, rng_for(self.seed, "scene", number))

    @property
    def scene(self) -> Scene:
        """The truth about a picture that is drawn."""
        shown = self.shown
        assert isinstance(shown, Scene)
        return shown


def plan_rows(rows: int, seed: int, mixture: Mixture = CRAWL) -> list[Row]:
    """Deal the kinds of noise out to the rows, in the exact numbers of `count_noise`."""
    counts = count_noise(rows, mixture)
    dealt = [(noise, turn) for noise, siblings in counts.items() for turn in range(siblings)]
    numbers = rng_for(seed, "plan", rows).permutation(rows).tolist()
    plan = [
        Row(
            seed=seed,
            number=number,
            noise=noise,
            turn=turn,
            siblings=counts[noise],
            # The clean rows are dealt first, so the first numbers are theirs.
            picture=numbers[turn // COPIES_PER_DUPLICATE] if noise == "duplicate" else number,
            mixture=mixture,
        )
        for number, (noise, turn) in zip(numbers, dealt, strict=True)
    ]
    return sorted(plan, key=lambda row: row.number)


def rng_for(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Return the source of chance for one purpose in one row."""
    purposes = ("plan", "scene", "words", "pixels", "record")
    return np.random.Generator(np.random.PCG64([seed, purposes.index(purpose), number]))


# 15 x 10 x 7 = HUB_ROWS alt-texts, no two alike.
PRODUCTS = (
    "Black White Silver Golden Handmade Modern Classic Vintage Foldable Round Simple Elegant "
    "Sturdy Light Antique",
    "shelf lamp chair table mirror carpet basket curtain cushion clock",
    "kitchen bedroom garden office bathroom hallway nursery",
)
# Alt-texts that the rows of a noise take in turn.
TEXTS: Mapping[str, tuple[str | None, ...]] = {
    "file_name": ("IMG_{number:04d}.jpg", "DSC{number:05d}", "P{number:07d}.JPG"),
    "cache_string": ("{token}", "{code}", "cache_{token}_{number}"),
    "number": ("{number}x1080", "{number}", "{number}.99", "{number}-03-04"),
    "too_short": ("{colour} {shape}", "{shape}"),
    "blank": ("", "   ", "\u3000\t\n", None),
    "html": (
        '<script>alert("{caption}")</script>',
        "</td></tr></table><h1>{caption}</h1>",
        '"><img src=x onerror=alert(1)> {caption}',
        "<!-- {caption} <style>body{{display:none}}</style>",
        "{{{{ 7 * 7 }}}} {{% raw %}} {caption}",
        "<a href='javascript:alert(1)'>{caption}</a>",
    ),
    "hub": tuple(
        f"{quality} {thing} for the {room}"
        for quality, thing, room in product(*(words.split() for words in PRODUCTS))
    ),
}
BOILERPLATE = (
    "click to enlarge",
    "see caption",
    "image for post",
    "no description available for this photo",
    "this image has been resized to fit the page",
    "share this on your favourite social network",
)
# A frame for the true caption, and what to put in the place of some of its characters.
ODD_CHARACTERS: tuple[tuple[str, dict[int, str]], ...] = (
    ("{} \U0001f600\U0001f44d\U0001f3fd \u2728", {}),
    ("A \ufb01ne view of \ufb02at colours: {}", {}),
    ("{}", {32: "\u3000"} | {code: chr(code + 0xFEE0) for code in range(33, 127)}),  # full width
    ("{}", {32: "\u00a0"}),  # no-break spaces
    ("&quot;{}&quot; &amp; more", {}),
    ("\u200f{}\u200e", {}),  # marks that turn the direction of writing
    ("{}", {32: " \u200b"}),  # zero-width spaces
    ("The artist\u2019s and o'clock's picture: {}", {}),
)
ADVERTISEMENT = (
    "buy cheap {colour} {shape} pictures online today with free shipping and a money back "
    "guarantee best price for every {shape} in our store this week only while stocks last order "
    "now and save more than half read the reviews of happy customers who love their new {colour} "
    "{shape} and tell all of your friends about our amazing collection of posters and gifts"
)


def alt_text(row: Row) -> str | None:
    """Return what the crawl says of the picture: the truth, unless the noise is in the words."""
    if row.noise in TEXTS:
        return _text_in_turn(row)
    write = _WRITERS.get(row.noise)
    return write(row, row.shown) if write else row.shown.caption


def _text_in_turn(row: Row) -> str | None:
    text = TEXTS[row.noise][row.turn % len(TEXTS[row.noise])]
    rng = rng_for(row.seed, "words", row.number)
    return text and text.format(
        number=rng.integers(10_000),
        token=rng.bytes(24).hex(),
        code=base64.b64encode(rng.bytes(33)).decode(),
        caption=row.shown.caption,
        **row.shown.columns,
    )


def _spurious(row: Row, scene: Scene) -> str:
    if row.turn % 2:
        return replace(scene, colour=WRONG_COLOUR[scene.colour]).caption
    return replace(scene, shape=WRONG_SHAPE[scene.shape]).caption


def _partner(_: Row, shown: Scene | Photograph) -> str:
    if isinstance(shown, Photograph):
        return shown.wrong.caption
    colour, shape = partner_of(shown.colour, shown.shape)
    return replace(shown, colour=colour, shape=shape).caption


def _other_image(row: Row, shown: Scene | Photograph) -> str:
    """Take the caption of the next row with another shape in another colour, or another class.

    Classes are few: the partner's is passed over, or it would be named more often than asked.
    """
    following = map(row.shown_by, count(row.number + 1))
    return next(other.caption for other in following if _differ(shown, other))


def _differ(one: Scene | Photograph, other: Scene | Photograph) -> bool:
    if isinstance(one, Photograph) and isinstance(other, Photograph):
        return other.label not in (one.label, one.partner)
    assert isinstance(one, Scene)
    assert isinstance(other, Scene)
    return one.shape != other.shape and one.colour != other.colour


def _boilerplate(row: Row, _: Scene | Photograph) -> str:
    num_texts = max(1, min(row.siblings // PICTURES_PER_BOILERPLATE, len(BOILERPLATE)))
    return BOILERPLATE[row.turn % num_texts]


def _foreign(row: Row, scene: Scene) -> str:
    return scene.caption_in(list(FOREIGN)[row.turn % len(FOREIGN)])


def _duplicate(row: Row, scene: Scene) -> str:
    wording = scene.wording + 1 + row.turn % COPIES_PER_DUPLICATE
    return replace(scene, wording=wording % len(WORDINGS)).caption


def _unicode(row: Row, scene: Scene) -> str:
    frame, letters = ODD_CHARACTERS[row.turn % len(ODD_CHARACTERS)]
    return frame.format(scene.caption).translate(letters)


def _too_long(row: Row, scene: Scene) -> str:
    words = ADVERTISEMENT.format(colour=scene.colour, shape=scene.shape).split()
    rng = rng_for(row.seed, "words", row.number)
    first = rng.integers(len(words))
    return " ".join([*words[first:], *words[:first]][: rng.integers(21, 61)])


_WRITERS: Mapping[str, Callable[[Row, Any], str]] = {
    "spurious": _spurious,
    "partner": _partner,
    "other_image": _other_image,
    "boilerplate": _boilerplate,
    "foreign": _foreign,
    "duplicate": _duplicate,
    "unicode": _unicode,
    "too_long": _too_long,
}
