"""Drop captions that are only the image's file name: "IMG_1234.jpg", "DSC00012", "1920x1080".

ALIGN's examples of alt-texts that too many images share (arXiv:2102.05918, section 3) are of this
kind.  In a small crawl they are not shared often enough to be found by counting, and in a list of
URLs without a corpus-wide count not at all.  No published data set names such a rule: it is ours.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import Limit, Rule

_NAMES = (
    r"[^\s\p{Z}]+\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|avif|heic)",  # one word with an extension
    r"(?:img|dsc|dscn|dscf|dcim|pict|mvi|gopr|wp)[-_ ]?\d{3,}(?:[-_]\w*)*",  # a camera's
    r"p\d{7}",  # another camera's: month, day and number
    r"(?:image|img|photo|picture|pic|screenshot)[-_ ]?\(?\d+\)?",  # numbered by hand
    r"\d{8}[-_]\d{4,}",  # a telephone's: date and time
    r"\d{2,5} ?[x\x{d7}] ?\d{2,5}(?: ?px)?",  # a size in pixels, with an x or a cross
)
_PATTERN = f"(?i)^(?:{'|'.join(_NAMES)})$"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName(Rule):
    """Keep captions that are more than a file name, a number given by a camera, or a size."""

    column = "caption"
    of_caption = True

    def limits(self) -> tuple[Limit, ...]:
        """Return the one limit, that the caption is no file name."""
        return (Limit("is null", None, "file_name.bare"),)

    def values(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return the captions that are file names; null for the others."""
        text = pc.utf8_trim_whitespace(batch["caption"])
        return pc.if_else(pc.match_substring_regex(text, _PATTERN), text, None)
