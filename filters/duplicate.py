"""Drop the copies of what the corpus has already: of each group of duplicates one pair stays.

What is a duplicate is a matter of the whole corpus, so this rule alone has no measured column: its
groups are made of the rows that every other rule keeps, each time that a recipe is decided.
"""

from dataclasses import dataclass

from filters.rule import Limit, RecipeError, Rule

_SAME = ("pair", "image", "near_pair", "near_image")
_KEEP = ("largest_image", "best_score", "first")
_MOST = {"pdq": 63, "phash": 15}
"""Bits; images further apart have nothing in common but chance."""
_ALIKE = {"pdq": 31}
"""Source: PDQ's authors, who call images alike up to a distance of 31 of 256 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(Rule):
    """Keep one pair of each group of duplicates."""

    column = "duplicate_of"
    knows_null = True

    same: str = "pair"
    """What makes two rows duplicates.

    `pair`: the same image and the same text; `image`: the same image; `near_pair` and `near_image`:
    the same, where images of one hash, or of near ones, are one image, too.  An image is its bytes'
    SHA-256, or else its URL; a text is its text key.
    """
    hash: str = "pdq"
    """`pdq` or `phash`: the hash whose distance says what is near."""
    max_distance_inclusive: int | None = None
    """Bits in which near hashes may differ; what a chain of them links is one group.

    Where it is not set, it is the bound of PDQ's authors; for pHash nobody has published one.
    """
    keep: str = "largest_image"
    """Which pair of a group stays.

    `largest_image`: of most pixels; `best_score`: of the highest `clip_score`; `first`: of the
    smallest uid.  Equal ones are settled by the uid, and then by the place in the input.
    """
    merge_captions: bool = False
    """Write the captions of the dropped copies beside that of the pair that stays."""

    def __post_init__(self) -> None:
        for field, known in (("same", _SAME), ("hash", tuple(_MOST)), ("keep", _KEEP)):
            if getattr(self, field) not in known:
                raise RecipeError(
                    f"rules.duplicate.{field} must be {', '.join(known)}, got "
                    f"{getattr(self, field)!r}; correct it"
                )
        if self.max_distance_inclusive is None:
            if self.near and self.hash not in _ALIKE:
                raise RecipeError(
                    f"rules.duplicate.max_distance_inclusive must be set for {self.hash}, got "
                    "nothing; add it, such as 0 for equal hashes"
                )
        elif not self.near:
            raise RecipeError(
                f"rules.duplicate.max_distance_inclusive must have near images to bound, got same "
                f"= {self.same!r}; leave it out, or set same to near_{self.same}"
            )
        elif not 0 <= self.max_distance_inclusive <= _MOST[self.hash]:
            raise RecipeError(
                f"rules.duplicate.max_distance_inclusive must be from 0 to {_MOST[self.hash]}, got "
                f"{self.max_distance_inclusive:,}; correct it"
            )

    @property
    def near(self) -> bool:
        """Whether images may be the same by their hashes."""
        return self.same.startswith("near_")

    @property
    def of_pairs(self) -> bool:
        """Whether the texts must be the same, too."""
        return self.same.endswith("pair")

    @property
    def max_distance(self) -> int:
        """Bits in which near hashes may differ."""
        chosen = self.max_distance_inclusive
        return _ALIKE.get(self.hash, 0) if chosen is None else chosen

    def limits(self) -> tuple[Limit, ...]:
        """Return the one limit: that there is no pair that stays in this one's place."""
        return (Limit("is null", None, "duplicate.copy"),)
