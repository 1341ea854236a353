"""Drop captions of too few or too many characters, white space at the ends included.

Source: LAION-400M (arXiv:2111.02114) drops alt-texts of fewer than 5 characters; DataComp's code
and COYO-700M's README drop those of 5 as well.
"""

from dataclasses import dataclass

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class CharCount(Range):
    """Keep captions whose number of characters is within bounds."""

    column = "char_count"
    of_caption = True
    too_low = "char_count.too_short"
    too_high = "char_count.too_long"
