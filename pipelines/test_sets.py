"""Look for training images in the indexes of test sets."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.recipe import Recipe
from filters.rule import RecipeError
from pipelines.hashes import BITS, MIN_QUALITY, packed
from pipelines.index import TestIndex, describe, open_index
from pipelines.sources import find_images
from recaption.stores import to_path

_COMPARABLE = ("digest", "size_px", "mean", "std")


def open_indexes(recipe: Recipe) -> list[TestIndex]:
    """Open the indexes of a recipe.

    Raises:
        RecipeError: One is no index, or of another version.
    """
    return [open_index(to_path(path)) for path in recipe.test_sets.indexes]


def check_indexes(recipe: Recipe) -> None:
    """Check that the indexes of a recipe are there and hold what it asks of them.

    Raises:
        RecipeError: One is no index, or of another version, or lacks the recipe's embeddings.
    """
    made = describe(recipe.embedding) if recipe.embedding.model else None
    for index in open_indexes(recipe):
        found = index.about["embedding"]
        if made and (found is None or any(found[name] != made[name] for name in _COMPARABLE)):
            raise RecipeError(
                f"index {index.path} must hold embeddings by {recipe.embedding.model}, got "
                + (f"those by {found['model']}" if found else "none")
                + "; build it again with --recipe"
            )


def similarities(recipe: Recipe, vectors: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Find the most similar test image of each embedded image, and tell its cosine and name."""
    best = np.full(len(vectors), -np.inf, np.float32)
    names = np.full(len(vectors), None, object)
    for index in open_indexes(recipe):
        found = index.most_similar(vectors)
        closer = found.cosine > best
        best[closer] = found.cosine[closer]
        names[closer] = index.names(found.entry[closer]).to_numpy(zero_copy_only=False)
    known = np.isfinite(best)
    return [
        {"embedding_similarity": value if there else None, "embedding_nearest": name}
        for value, name, there in zip(best.tolist(), names, known, strict=True)
    ]


def test_distances(recipe: Recipe, hashed: pa.RecordBatch) -> dict[str, pa.Array]:
    """Find the nearest test image of each image.

    Args:
        recipe: Its `[test_sets]` names the indexes.
        hashed: `sha256`, `phash`, `pdq` and `pdq_quality`, all known.

    Returns:
        The columns `<hash>_distance` and `<hash>_nearest`.  A file that is a test image has the
        distance 0; another one whose hashes mean nothing, as it is flat, a null.
    """
    indexes = open_indexes(recipe)
    same = [index.same_files(hashed["sha256"].to_pylist()) for index in indexes]
    telling = pc.greater_equal(hashed["pdq_quality"], MIN_QUALITY).to_numpy(zero_copy_only=False)
    columns: dict[str, pa.Array] = {}
    for kind, bits in BITS.items():
        radius = getattr(recipe.test_sets, f"{kind}_radius")
        queries = packed(hashed[kind].to_pylist(), bits)
        distance = np.full(len(hashed), radius + 1)
        names = np.full(len(hashed), None, object)
        for index, entries in zip(indexes, same, strict=True):
            found = index.nearest(kind, queries[telling], radius)
            nearest, at = distance.copy(), np.full(len(hashed), -1)
            nearest[telling], at[telling] = found.distance, found.at
            nearest[entries >= 0], at[entries >= 0] = 0, entries[entries >= 0]
            closer = nearest < distance
            distance[closer] = nearest[closer]
            names[closer] = index.names(at[closer]).to_numpy(zero_copy_only=False)
        unknown = ~telling & (distance > 0)
        columns[f"{kind}_distance"] = pa.array(distance, pa.int32(), mask=unknown)
        columns[f"{kind}_nearest"] = pa.array(names, pa.string())
    return columns


def read_images(index: TestIndex, names: Collection[str]) -> dict[str, bytes]:
    """Read some test images, named as by `TestIndex.names`, from where the index was built.

    Raises:
        InputError, OSError: They are not there any more.
    """
    found: dict[str, bytes] = {}
    for test_set in index.about["test_sets"]:
        prefix = f"{test_set['name']}/"
        own = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        for part in find_images(test_set["source"], index.path) if own else ():
            found |= {prefix + name: image for name, image in part.read(own)}
    return found
