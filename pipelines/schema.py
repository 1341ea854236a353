"""Names of columns: those that the ecosystem's files use, and our own."""

from collections.abc import Collection, Mapping

import pyarrow as pa

from filters.rule import RecipeError

ALIASES = {
    "key": ("key",),
    "uid": ("uid",),
    "url": ("url", "URL", "image_url"),
    "caption": ("caption", "text", "TEXT", "alt_text", "alt", "top_caption"),
    "status": ("status",),
    "width": ("width", "WIDTH"),
    "height": ("height", "HEIGHT"),
    "original_width": ("original_width",),
    "original_height": ("original_height",),
    "nsfw_score": ("punsafe", "nsfw_score", "nsfw_score_opennsfw2"),
    "clip_score": (
        "clip_score",
        "similarity",
        "clip_b32_similarity_score",
        "clip_similarity_vitb32",
    ),
    "image": ("jpg", "jpeg", "png", "webp", "image", "image_bytes", "bytes", "img"),
}
"""Input columns by our name: img2dataset, DataComp, LAION, COYO, Conceptual Captions, HF."""

TEXTUAL = ("key", "uid", "url", "caption", "status")
NUMERIC = (
    "width",
    "height",
    "original_width",
    "original_height",
    "nsfw_score",
    "clip_score",
)

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})

COLUMNS = pa.schema(
    [
        ("uid", pa.string()),
        ("key", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("error", pa.string()),
        ("char_count", pa.int32()),
        ("word_count", pa.int32()),
        ("token_count", pa.int32()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("ngram_rank", pa.int64()),
        ("images_per_text", pa.int64()),
        ("texts_per_image", pa.int64()),
        ("sha256", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("shorter_side_px", pa.int32()),
        ("aspect_ratio", pa.float64()),
        ("image_bytes", pa.int64()),
        ("image_offset", pa.int64()),
        ("nsfw_score", pa.float64()),
        ("clip_score", pa.float64()),
        ("decoded", pa.bool_()),
        ("phash", pa.string()),
        ("pdq", pa.string()),
        ("pdq_quality", pa.int32()),
        ("phash_distance", pa.int32()),
        ("phash_nearest", pa.string()),
        ("pdq_distance", pa.int32()),
        ("pdq_nearest", pa.string()),
        ("embedding_similarity", pa.float32()),
        ("embedding_nearest", pa.string()),
    ]
)
"""`columns/<shard>.parquet`: what was measured, one row per input row, null where unknown.

`image_offset` is the byte at which a tar shard's image begins; `decoded` says that its pixels were
decoded, which only rows are whose other columns break no rule, or with `images.for_recaption` none
but rules on the caption.  The hashes are in hex, and known of
decoded images; `<hash>_distance` is how many bits the nearest test image's differ in, one more than
the recipe's radius if there is none within that, and null if the image is too flat to tell;
`embedding_similarity` is the cosine of the most similar test image.
"""

OF_HASHES = tuple(COLUMNS.names[COLUMNS.names.index("phash") :])
"""The columns that are known only where images are hashed or embedded."""

RADII = {"phash_distance": "phash_radius", "pdq_distance": "pdq_radius"}
"""Distances to test images, with how far a recipe's `[test_sets]` says to look for them."""

NEAREST = {
    "phash_distance": "phash_nearest",
    "pdq_distance": "pdq_nearest",
    "embedding_similarity": "embedding_nearest",
}
"""What is measured of the nearest test image, with the column of its name."""

NEEDED = {
    "shorter_side_px": ("width", "height"),
    "aspect_ratio": ("width", "height"),
    "width": ("width", "height"),
    "image_bytes": ("image",),
    "nsfw_score": ("nsfw_score",),
    "clip_score": ("clip_score",),
}
"""The input columns, by our names, that a measured column is taken from if not from the bytes."""

DECISIONS = pa.schema(
    [
        ("uid", pa.string()),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("value", pa.string()),
        ("threshold", pa.string()),
        ("broken", pa.uint64()),
        ("duplicate_of", pa.string()),
    ]
)
"""`decisions/<shard>.parquet`: why a row went; a null reason means that it was kept.

`broken` has bit 0 for `intact` and bit i for the recipe's i-th rule, set where the rule is broken.
`duplicate_of` is the uid of the pair that stays in this one's place, where the recipe looks for
duplicates; the row that stays is null, and so are those that other rules drop.
"""

PLACES = {"duplicate_of": pa.string(), "stays_shard": pa.uint64(), "stays_row": pa.int64()}
"""What is told of the pair that stays in a copy's place: its uid, its shard's hash, and its row."""


def resolve(present: Collection[str], chosen: Mapping[str, str], where: str) -> dict[str, str]:
    """Find the input columns.

    Args:
        present: The input's columns.
        chosen: A recipe's `[columns]`, input columns by our name.
        where: What to call the input in an error.

    Returns:
        Input columns by our name, for the names that the input has.

    Raises:
        RecipeError: A chosen column is not there, or chosen for a name that does not exist.
    """
    for name, column in chosen.items():
        if name not in ALIASES:
            raise RecipeError(
                f"columns.{name} must be one of our names, got an unknown one; the names are "
                + ", ".join(ALIASES)
            )
        if column not in present:
            raise RecipeError(
                f"columns.{name} must name a column of the input, got {column!r}, which {where} "
                f"lacks; its columns are {', '.join(sorted(present))}"
            )
    found = {
        name: next((alias for alias in aliases if alias in present), None)
        for name, aliases in ALIASES.items()
    }
    return {name: column for name, column in found.items() if column} | dict(chosen)
