"""Drop images that are near-duplicates of test images by an embedding.

Source: ALIGN (arXiv:2102.05918), appendix A, calls a cosine larger than 0.975 a near-duplicate, by
a model that is not published; each model has a scale of its own.
"""

from dataclasses import dataclass

from filters.nearest import Nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSimilarity(Nearest):
    """Keep images unlike enough to every test image, as the cosine of their embeddings."""

    column = "embedding_similarity"
    also_reads = ("embedding_nearest",)
    too_low = "embedding_similarity.too_low"
    too_high = "embedding_similarity.test_image"
