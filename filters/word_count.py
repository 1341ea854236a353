"""Drop captions of too few or too many words, a word being what white space parts.

Source: CC12M (arXiv:2102.08981) allows 3 to 256 words, and so does COYO-700M's README; DataComp's
code wants more than 2.
"""

from dataclasses import dataclass

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class WordCount(Range):
    """Keep captions whose number of words is within bounds."""

    column = "word_count"
    of_caption = True
    too_low = "word_count.too_short"
    too_high = "word_count.too_long"
