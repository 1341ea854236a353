"""Pictures of a labelled folder, for a sample to show in place of scenes that are drawn.

What is true of a picture is its class; the caption that is wrong again and again names the class
after it, in the order of their names, and the first after the last.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.arrivals import look_at
from pipelines.image_reader import read_fields
from pipelines.sources import Files, Part, ShardImages, find_images

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
"""What folders of splits are called."""
HELD_OUT = 0.2
"""Of the pictures, for tests, where no split is; VTAB's share (arXiv:1910.04867)."""
MIN_CLASSES = 3
"""A class, its partner, and another: a caption of another picture is of none of the first two."""
_NOT_AN_OUTPUT = Path("/dev/null")

# fastText calls them English, even of a hat; "A photo of a hat" it takes for German, at 0.95.
WORDINGS = (
    "This is a photo of a {label}",
    "There is a {label} in this picture",
    "You can see a {label} in this photo",
    "Someone has taken a photo of this {label}",
    "This is what a {label} looks like",
    "Have a look at the {label}",
    "We found this photo of a {label}",
    "What you see in the picture is a {label}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """What is true of a picture that was found, and which of `WORDINGS` says it."""

    picture: str
    """Its name, which is its path in the folder."""
    label: str
    partner: str
    """The class that is named in place of its own."""
    wording: int = 0

    @property
    def caption(self) -> str:
        """A true caption of three English words or more."""
        return WORDINGS[self.wording].format(label=self.label)

    @property
    def wrong(self) -> "Photograph":
        """What a caption that names the partner is true of."""
        return replace(self, label=self.partner)

    @property
    def columns(self) -> dict[str, str]:
        """What a sample tells of it besides a caption."""
        return {"label": self.label, "partner": self.partner, "picture": self.picture}


@dataclass(frozen=True, slots=True)
class Album:
    """Pictures in the order in which a sample shows them."""

    about: Mapping[str, Any]
    """What decides them, as a sample's record has it, with the `partners` of all classes."""
    photographs: Sequence[Photograph]
    images: Mapping[str, bytes]
    """By name."""


def open_album(
    folder: Path, *, part: str, seed: int, skip: int, rows: int | None, side_px: int
) -> Album:
    """Deal the pictures of a folder out, and read them.

    Args:
        folder: A folder of pictures for each class, or shards of them with a `label`; perhaps with
            folders of those, called train and test.
        part: `all`, `train` or `test`.  Without folders of these names, test is a fifth of all,
            always the same.
        seed: Of the order.
        skip: So many of the first are left out; two samples of one seed share no picture where one
            has the first so many, and the other skips them.
        rows: So many follow; None: all the rest.
        side_px: Larger pictures are made so small, on their shorter side.

    Raises:
        ValueError: There are too few pictures or classes, or one cannot be read.
    """
    parts = find_images(str(folder), _NOT_AN_OUTPUT)
    every = [named for one in parts for named in _labels(one)]
    classes = sorted({label for _, label in every})
    partners = dict(zip(classes, [*classes[1:], *classes[:1]], strict=True))
    some = _part(every, part)
    most = len(some) - skip
    if skip < 0 or not 0 < (most if rows is None else rows) <= most:
        raise ValueError(
            f"rows must be 1 to {most}, got {rows} after {skip} skipped, as {folder} has "
            f"{len(some)} pictures with a class for {part}; change rows or skip"
        )
    order = np.random.default_rng([seed, len(some)]).permutation(len(some))[skip:]
    dealt = [some[at] for at in order[:rows]]
    shown = {label for _, label in dealt}
    if len(shown) < MIN_CLASSES:
        raise ValueError(
            f"images must be of {MIN_CLASSES} classes or more, got {' and '.join(shown)} alone in "
            f"{len(dealt)} rows; name a folder that has others, or raise rows"
        )
    images = dict(_read(parts, {name for name, _ in dealt}, side_px))
    about = {"images": str(folder), "part": part, "skip": skip, "partners": partners}
    photographs = [
        Photograph(picture=name, label=label, partner=partners[label]) for name, label in dealt
    ]
    return Album(about, photographs, images)


def _labels(part: Part) -> Iterator[tuple[str, str]]:
    """Yield the name and the class of each picture that has one."""
    if isinstance(part, ShardImages):
        for key, fields in read_fields(part.shard).items():
            if fields.get("label") is not None:
                yield f"{part.shard.name}/{key}", str(fields["label"])
    elif isinstance(part, Files):
        for path in part.files:
            yield path.relative_to(part.root).as_posix(), path.parent.name.replace("_", " ")


def _part(every: Sequence[tuple[str, str]], part: str) -> Sequence[tuple[str, str]]:
    """Return the pictures of a split, or of what stands for it where the folder has none."""
    if part == "all":
        return every
    splits = {
        one: [named for named in every if named[0].partition("/")[0] in SPLITS[one]]
        for one in ("train", "test")
    }
    if all(splits.values()):
        return splits[part]
    order = np.random.default_rng(0).permutation(len(every))
    cut = round(HELD_OUT * len(every))
    return [every[at] for at in (order[:cut] if part == "test" else order[cut:])]


def _read(parts: Sequence[Part], wanted: set[str], side_px: int) -> Iterator[tuple[str, bytes]]:
    for part in parts:
        for name, data in part.read(wanted):
            found = look_at(data, side_px)
            if found.image is None:
                why = found.facts["error_message"]
                raise ValueError(f"picture {name} must be readable, got {why}; remove it")
            yield name, found.image
