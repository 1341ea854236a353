"""Drop captions that say the same words again and again: "shoes red shoes buy red shoes".

Source: CC12M (arXiv:2102.08981) allows a fraction of word repetition of at most 0.2, as a change to
Conceptual Captions, whose own number is unpublished.  Neither says how it is counted.  Here it is
the share of words, in lower case, that occurred before in the caption.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition(Range):
    """Keep captions whose share of repeated words is within bounds."""

    column = "caption"
    of_caption = True
    judged = "share of repeated words"
    too_low = "repetition.too_low"
    too_high = "repetition.too_high"

    def values(self, batch: pa.RecordBatch) -> pa.DoubleArray:
        """Return the share of each caption's words that occurred before in it."""
        text = pc.utf8_lower(pc.utf8_trim_whitespace(batch["caption"]))
        words = pc.utf8_split_whitespace(text)
        rows = pa.table({"row": pc.list_parent_indices(words), "word": words.flatten()})
        once = rows.group_by(["row", "word"], use_threads=False).aggregate([])
        num_distinct = np.bincount(once["row"].to_numpy(), minlength=len(batch))
        num_words = pc.cast(pc.list_value_length(words), pa.float64())
        return pc.divide(pc.subtract(num_words, num_distinct.astype(np.float64)), num_words)
