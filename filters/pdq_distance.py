"""Drop images that are near-duplicates of test images by PDQ.

Source: PDQ's authors call images alike up to a Hamming distance of 31 of 256 bits.
"""

from dataclasses import dataclass

from filters.nearest import Nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class PdqDistance(Nearest):
    """Keep images far enough from every test image, in bits of PDQ that differ."""

    column = "pdq_distance"
    also_reads = ("pdq_nearest",)
    too_low = "pdq_distance.test_image"
    too_high = "pdq_distance.too_high"
