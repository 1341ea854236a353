"""Indexes of test sets: small folders of hashes, in which a job looks for its training images.

indexes/imagenet-val/
  index.json       format, test sets with their sources, versions, digest
  images.arrow     test_set, name, sha256, width, height, phash, pdq, pdq_quality
  phash/ pdq/      the hashes and, of dihedral indexes, their flips and turns, for `hamming`
  sha256/          digests of the files, sorted
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.recipe import Embedding
from filters.rule import RecipeError
from pipelines import hamming
from pipelines.buckets import Found, Vectors, most_similar_exact, read_buckets
from pipelines.hashes import BITS, VERSION, packed
from pipelines.storage import read_ipc
from recaption.embedding import digest
from recaption.files import read_json
from recaption.stores import shared_folder

FORMAT = 1
NAME = "index.json"
BUCKETS = "embedding"
SCHEMA = pa.schema(
    [
        ("test_set", pa.string()),
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.list_(pa.string())),
        ("pdq", pa.list_(pa.string())),
        ("pdq_quality", pa.int32()),
    ]
)
"""`images.arrow`; of a dihedral index, the hashes are those of the eight variants."""


def describe(embedding: Embedding) -> dict[str, Any]:
    """Say how vectors are made, so that only comparable ones are compared.

    Raises:
        RecipeError: The model is not there, or the extra is not installed.
    """
    return asdict(embedding) | {
        "digest": digest(embedding.model),
        "mean": list(embedding.mean),
        "std": list(embedding.std),
    }


def open_index(path: Path) -> "TestIndex":
    """Open an index.

    Raises:
        RecipeError: It is no index, of another version, or empty.
    """
    return _open(path, (path / NAME).stat().st_mtime_ns if (path / NAME).is_file() else 0)


@cache
def _open(path: Path, _: int) -> "TestIndex":
    return TestIndex(path)


class TestIndex:
    """An index of test sets, its files mapped into memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = _about(path)
        path = shared_folder(path, NAME)
        self.entries = pa.Table.from_batches(read_ipc(path / "images.arrow"), SCHEMA)
        self._hashes = {kind: hamming.Index(path / kind) for kind in BITS}
        self._of_hash = {kind: _load(path / kind / "entries.npy") for kind in BITS}
        self._digests, self._of_digest = (
            _load(path / "sha256" / f"{name}.npy") for name in ("digests", "entries")
        )
        embedded = self.about["embedding"]
        self._buckets = read_buckets(path / BUCKETS) if embedded and embedded["clusters"] else None
        self.vectors: Vectors | None = _load(path / BUCKETS / "vectors.npy") if embedded else None

    def nearest(self, kind: str, queries: NDArray[np.uint64], radius: int) -> hamming.Nearest:
        """Find the test image with the nearest hash of a kind; see `hamming.Index.nearest`."""
        found = self._hashes[kind].nearest(queries, radius)
        entries = self._of_hash[kind]
        there = found.at >= 0
        found.at[there] = entries[found.at[there]]
        return found

    def count_within(self, kind: str, query: NDArray[np.uint64], radius: int) -> int:
        """Count the test images, those of equal hashes once, up to `radius` bits away; slowly."""
        apart = np.bitwise_count(self._hashes[kind].hashes ^ query).sum(axis=1)
        return len(np.unique(self._of_hash[kind][apart <= radius]))

    def most_similar(self, queries: Vectors) -> Found:
        """Find the test image with the most similar embedding, of those in the same buckets.

        Raises:
            RecipeError: The index holds no embeddings.
        """
        if self.vectors is None:
            raise RecipeError(f"index {self.path} must hold embeddings, got none; build it again")
        if self._buckets:
            return self._buckets.most_similar(queries)
        return most_similar_exact(queries, self.vectors)

    def same_files(self, sha256: Sequence[str]) -> NDArray[np.int64]:
        """Return the test image with each digest; -1 where there is none."""
        wanted = packed(list(sha256), 256)
        at = np.searchsorted(self._digests[:, 0], wanted[:, 0])
        at = np.minimum(at, len(self._digests) - 1)
        same = (self._digests[at] == wanted).all(axis=1)
        return np.where(same, self._of_digest[at].astype(np.int64), -1)

    def names(self, entries: NDArray[np.int64]) -> pa.StringArray:
        """Return the names of test images, after their test set's."""
        chosen = self.entries.select(["test_set", "name"]).take(pa.array(entries))
        joined = pc.binary_join_element_wise(chosen["test_set"], chosen["name"], "/")
        return joined.combine_chunks()


def _about(path: Path) -> dict[str, Any]:
    try:
        about = read_json(path / NAME)
        versions = about["format"], about["hashes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"index {path} must be a folder that the job index wrote, got: {error}; build it, or "
            "correct the path"
        ) from None
    if versions != (FORMAT, VERSION):
        raise RecipeError(
            f"index {path} must have format {FORMAT} and hashes of version {VERSION}, got "
            f"{versions[0]} and {versions[1]}; build it again"
        )
    return about


def _load(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r")
