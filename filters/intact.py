"""Drop rows that are no usable pair: the image or the caption is missing or broken.

This rule is built in: every run judges by it first, and no recipe names it.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Limit, Rule

ERRORS = (
    "taken_down",
    "metadata_unreadable",
    "duplicate_key",
    "download_failed",
    "caption_not_utf8",
    "caption_missing",
    "image_missing",
    "image_undecodable",
    "image_too_large",
    "image_damaged",
)
"""What can be wrong with a row; the first that applies is its error.

A row that was taken down at somebody's request has no image and no caption any more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intact(Rule):
    """Keep rows in which nothing is missing or broken."""

    column = "error"
    knows_null = True

    def limits(self) -> tuple[Limit, ...]:
        """Return one limit per error; none of them holds where there is an error."""
        return tuple(Limit("is null", None, f"intact.{error}") for error in ERRORS)

    def __call__(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Name the error of every row of `batch`; null means keep."""
        return pc.binary_join_element_wise("intact", batch["error"], ".")
