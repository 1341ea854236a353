"""Drop captions that are in another language.

The likeliest label of a short caption is often wrong, and then seldom sure of itself: lid.176 takes
"A brown hen." for German, at 0.61.  So the rule drops a caption only when the model is sure enough
of another language; a bound of 0 goes by the label alone, as DataComp's code does.

How often it errs with `lid.176.ftz`, in %: English captions dropped / others kept, on 27,000
distinct alt-texts in 72 languages (`python -m tests.bench.language` makes the table):

    tokens          0           0.3           0.5           0.7           0.9
    1        23.6 / 16.0   16.1 / 28.5    7.5 / 45.5    3.1 / 59.6    1.2 / 71.3
    2        17.5 /  9.4    9.8 / 23.2    4.1 / 42.6    2.5 / 58.1    0.5 / 72.4
    3         9.5 /  7.7    3.6 / 20.6    1.7 / 37.8    0.8 / 51.9    0.2 / 66.3
    4         7.5 /  4.6    2.1 / 15.7    1.2 / 32.8    0.9 / 46.9    0.0 / 61.9
    5         2.0 /  3.9    0.8 / 14.0    0.8 / 29.8    0.8 / 43.0    0.4 / 55.4
    6-8       2.2 /  2.9    1.3 / 12.0    0.7 / 27.4    0.4 / 37.8    0.0 / 50.6
    9-12      4.0 /  2.2    0.6 / 12.0    0.0 / 23.8    0.0 / 38.3    0.0 / 48.9
    13-20     2.4 /  2.3    2.4 / 11.2    2.4 / 20.1    2.4 / 33.8    0.0 / 50.7

0.5 is the least bound, in tenths, at which every length from 3 to 12 tokens loses less than 2% of
its English; the 2.4% are 1 caption of 42.  Conceptual Captions' validation captions lose 0.15%.
One or two words say too little: the rule needs `token_count` beside it.  What stays is mostly split
between relatives (Danish and Norwegian, Croatian and Serbian) or in languages that the model does
not know; of the eleven commonest languages after English, at 0.5, 28% stay at 3 tokens and 6% at
9 to 12.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Limit, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Language(Rule):
    """Keep captions unless another language than those in `keep` is likely enough."""

    column = "language_score"
    of_caption = True
    judged = "score of another language"
    also_reads = ("language",)

    keep: tuple[str, ...] = ("en",)
    max_other_score_exclusive: float

    def limits(self) -> tuple[Limit, ...]:
        """Return the one limit, on the score of another language."""
        return (Limit("<", self.max_other_score_exclusive, "language.other"),)

    def values(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the model's score of another language; null where a kept one is likeliest."""
        kept = pc.is_in(batch["language"], value_set=pa.array(self.keep, pa.string()))
        other = pc.and_(pc.is_valid(batch["language"]), pc.invert(kept))
        return pc.if_else(other, batch["language_score"], None)

    def shown(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return label and score, such as `de 0.93`."""
        score = pc.cast(pc.round(batch["language_score"], ndigits=2), pa.string())
        return pc.binary_join_element_wise(batch["language"], score, " ")
