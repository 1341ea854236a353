"""Which captions a model learns from, and which of a sample's it reads this time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from filters.rule import RecipeError

PAIRS = ("chosen", "kept", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """Which captions are read; a recipe's `[captions]`.

    Raises:
        RecipeError: A weight is negative, none is above 0, or there is no such choice of pairs.
    """

    pairs: str = "chosen"
    """Of a filter run's output, the pairs to take.

    `chosen`: those that recaptioning chose a caption for, with the captions that it lets be trained
    on; of a run without captions, what `kept` means.
    `kept`: those that the run's rules kept, whatever a captioner and its filter made of them.
    `all`: those of the input, whatever was decided.
    Shards of any other kind are taken as they are.
    """
    weights: dict[str, float] = field(default_factory=lambda: {"chosen": 1.0})
    """How often each kind of caption is read, relative to the others that a sample has.

    `chosen` is what recaptioning chose, or else the caption itself (`.txt`, or the column or field
    of captions); `raw` the input's own, and `synthetic` the captioner's best.  Any other name is
    that of a column of a parquet or, in a tar, of a member (`alt.txt`) or of a field of its json;
    where it holds a list, each of its texts is as likely.  A sample with none of them is left out.
    """

    def __post_init__(self) -> None:
        if self.pairs not in PAIRS:
            raise RecipeError(
                f"captions.pairs must be {', '.join(PAIRS)}, got {self.pairs!r}; correct it"
            )
        for name, weight in self.weights.items():
            if weight < 0:
                raise RecipeError(
                    f"captions.weights.{name} must be 0 or more, got {weight:g}; raise it"
                )
        if not self.names:
            raise RecipeError(
                "captions.weights must have a weight above 0, got none; set chosen = 1"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds of captions that are read, in the order of their names."""
        return tuple(sorted(name for name, weight in self.weights.items() if weight > 0))

    def draw(self, texts: Sequence[Sequence[str]], chance: float) -> str:
        """Draw one of a sample's captions.

        Args:
            texts: Those that it has of each kind in `names`; of some kind at least one.
            chance: From 0 to 1, without 1.
        """
        present = [(self.weights[n], t) for n, t in zip(self.names, texts, strict=True) if t]
        at = chance * sum(weight for weight, _ in present)
        for weight, several in present:
            if at < weight:
                return several[int(at / weight * len(several))]
            at -= weight
        return present[-1][1][-1]  # what rounding left
