"""What rules about the nearest test image share."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(Range):
    """Keep rows whose image is unlike enough to every image of the test sets."""

    def shown(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return the values, each with the name of the nearest test image."""
        value = super(Nearest, self).shown(batch)
        named = pc.binary_join_element_wise(value, batch[self.also_reads[0]], " to ")
        return pc.coalesce(named, value)
