"""What rules about the nearest test image share."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(Range):
    """Keep rows whose image is far enough from every image of the test sets."""

    def shown(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return the distance with the name of the test image."""
        distance = super(Nearest, self).shown(batch)
        named = pc.binary_join_element_wise(distance, batch[self.also_reads[0]], " to ")
        return pc.coalesce(named, distance)
