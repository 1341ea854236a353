"""Drop captions that are not written as sentences are: "red shoe" and "Buy Red Shoes Now".

Source: Conceptual Captions (ACL 2018) section 3 discards captions whose first word is not
capitalised, or with too high a ratio of capitalised words; the ratio is unpublished.  CC12M
(arXiv:2102.08981) gave the rule up.

A word counts by its first letter, and only if that letter has a case: "3" and "犬" do not count.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Limit, Rule

_WHITE = r"\s\v\x1c-\x1f\x{85}\p{Z}"  # as in str.split
_LEAD = rf"[{_WHITE}][^\p{{L}}{_WHITE}]*"  # up to the first letter of a word
_CAPITALISED = _LEAD + r"[\p{Lu}\p{Lt}]"
_LOWER = _LEAD + r"\p{Ll}"
_CASELESS = _LEAD + rf"(?:[\p{{Lm}}\p{{Lo}}][^{_WHITE}]*)?"
_LOWER_FIRST = f"^(?:{_CASELESS})*{_LOWER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capitalisation(Rule):
    """Keep captions that begin with a capital but do not capitalise too many words."""

    column = "caption"
    of_caption = True
    judged = "share of capitalised words"

    first_word: bool = True
    """Whether the first word must be capitalised."""
    max_share_inclusive: float = 1.0
    """The largest share of the words that may be capitalised."""

    def limits(self) -> tuple[Limit, ...]:
        """Return the limits on `values`."""
        first = Limit(">", 0, "capitalisation.first_word")
        share = Limit("<=", self.max_share_inclusive, "capitalisation.too_high")
        return (first, share) if self.first_word else (share,)

    def values(self, batch: pa.RecordBatch) -> pa.DoubleArray:
        """Return the share of capitalised words, or 0 where the first word must be but is not.

        A caption whose words have no case has no share.
        """
        text = pc.binary_join_element_wise(" ", batch["caption"], "")
        num_capitalised = pc.count_substring_regex(text, _CAPITALISED)
        num_words = pc.add(num_capitalised, pc.count_substring_regex(text, _LOWER))
        known = pc.if_else(pc.greater(num_words, 0), num_words, None)
        share = pc.divide(pc.cast(num_capitalised, pa.float64()), known)
        if not self.first_word:
            return share
        return pc.if_else(pc.match_substring_regex(text, _LOWER_FIRST), 0.0, share)
