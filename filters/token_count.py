"""Drop captions that are too short to describe a picture, or too long to be about one.

Source: ALIGN (arXiv:2102.05918) section 3 discards alt-texts of fewer than 3 or more than 20
unigrams.  What a token is, the paper does not say; here it is a run of letters, marks and digits.
"""

from dataclasses import dataclass

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount(Range):
    """Keep captions whose number of tokens is within bounds."""

    column = "token_count"
    of_caption = True
    too_low = "token_count.too_short"
    too_high = "token_count.too_long"
