"""Drop captions that a website's software wrote, such as "Embedded image permalink".

Source: Conceptual Captions (ACL 2018) section 3 discards texts that begin or end with a known
phrase; of its list, two are published: "embedded image permalink" and "profile photo".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Limit, RecipeError, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Boilerplate(Rule):
    """Keep captions without any of the listed phrases.

    Upper and lower case are alike.  A phrase need not be whole words: write the space where it
    matters, as in the prefix "ad ".
    """

    column = "caption"
    of_caption = True
    judged = "boilerplate phrase"

    prefixes: tuple[str, ...] = ()
    """Phrases that no caption may begin with."""
    suffixes: tuple[str, ...] = ()
    """Phrases that no caption may end with."""
    phrases: tuple[str, ...] = ()
    """Phrases that no caption may have anywhere."""

    def __post_init__(self) -> None:
        for name in ("prefixes", "suffixes", "phrases"):
            if "" in getattr(self, name):
                raise RecipeError(
                    f'rules.boilerplate.{name} must be phrases, got "", which every caption has; '
                    "remove it"
                )

    def limits(self) -> tuple[Limit, ...]:
        """Return the one limit, that no phrase is found."""
        return (Limit("is null", None, "boilerplate.phrase"),)

    def values(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return the first listed phrase that each caption has."""
        text = pc.utf8_lower(pc.utf8_trim_whitespace(batch["caption"]))
        found = [(has(text, phrase.lower()), phrase) for has, phrase in self._tests()]
        if not found:
            return pa.nulls(len(batch), pa.string())
        masks = pa.StructArray.from_arrays(
            [mask for mask, _ in found], [str(i) for i in range(len(found))]
        )
        return pc.case_when(masks, *(pa.scalar(phrase) for _, phrase in found))

    def _tests(self) -> Iterator[tuple[Callable[[pa.Array, str], pa.Array], str]]:
        yield from ((pc.starts_with, phrase) for phrase in self.prefixes)
        yield from ((pc.ends_with, phrase) for phrase in self.suffixes)
        yield from ((pc.match_substring, phrase) for phrase in self.phrases)
