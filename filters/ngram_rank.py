"""Drop captions with a rare word, or a rare pair of words, in them.

Source: ALIGN (arXiv:2102.05918) section 3 discards alt-texts with any token outside of the 100
million most frequent unigrams and bigrams of the raw crawl.
"""

from dataclasses import dataclass

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramRank(Range):
    """Keep captions whose rarest unigram or bigram ranks within bounds, 1 being the commonest."""

    column = "ngram_rank"
    of_caption = True
    too_low = "ngram_rank.too_common"
    too_high = "ngram_rank.too_rare"
