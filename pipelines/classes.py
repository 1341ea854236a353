"""What the pictures of a sample show, by class, and what wrong captions name in its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.mixture import COMBINATIONS, partner_of
from recaption.files import read_json

RECORD = "sample.json"
GROUPS = ("seen", "held-out")
"""Classes that a training corpus may show, and those that it may do without."""
Class = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes of a sample's pictures."""

    columns: tuple[str, ...]
    """A sample's columns that together tell a picture's class."""
    partners: Mapping[Class, Class]
    """Of all classes, what the noise `partner` names in place of each."""
    groups: Mapping[str, frozenset[Class]]
    """Of `GROUPS`, whose pictures are told of apart: both of scenes, and `seen` of any others."""

    def named(self, text: str | None) -> list[list[str]]:
        """Return what a text names of each column, in its order, as often as it does."""
        several = [
            _pattern(frozenset(one[at] for one in self.partners)) for at in range(len(self.columns))
        ]
        return [
            [names[_squeezed(said)] for said in pattern.findall((text or "").lower())]
            for pattern, names in several
        ]


SCENES = Classes(
    ("colour", "shape"),
    {pair: partner_of(*pair) for pair in sorted(COMBINATIONS["all"])},
    {group: COMBINATIONS[group] for group in GROUPS},
)


def classes_of(corpus: Path) -> Classes:
    """Return the classes that a sample's record has; those of scenes where it has none."""
    path = corpus / RECORD
    partners = read_json(path).get("partners") if path.exists() else None
    if not partners:
        return SCENES
    classes: dict[Class, Class] = {(one,): (other,) for one, other in partners.items()}
    return Classes(("label",), classes, {"seen": frozenset(classes)})


@cache
def _pattern(names: frozenset[str]) -> tuple[re.Pattern[str], Mapping[str, str]]:
    """Return what finds names, and each as it was, by how it is found.

    The longest comes first, as there is a shirt in every T-shirt, which may be put as T - shirt.
    """
    pieces = [re.findall(r"\w+|[^\w\s]", name.lower()) for name in sorted(names, key=len)[::-1]]
    words = "|".join(r"\s*".join(map(re.escape, some)) for some in pieces)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)"), {_squeezed(name): name for name in names}


def _squeezed(name: str) -> str:
    return re.sub(r"\s", "", name.lower())
