"""Drop images that are near-duplicates of test images by pHash.

No paper names a threshold for 64 bits of pHash; tools use 4 to 10.
"""

from dataclasses import dataclass

from filters.nearest import Nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class PhashDistance(Nearest):
    """Keep images far enough from every test image, in bits of pHash that differ."""

    column = "phash_distance"
    also_reads = ("phash_nearest",)
    too_low = "phash_distance.test_image"
    too_high = "phash_distance.too_high"
