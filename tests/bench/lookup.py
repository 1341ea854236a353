"""The index of a test set with many entries: build, size, lookups, and whether they are exact."""

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np

from pipelines.hamming import Index, Words, write_index
from pipelines.hashes import BITS
from tests.bench.usage import seconds

QUERIES = 10_000
RADII = {"phash": 8, "pdq": 31}
_LIKE_ANOTHER = 0.1
"""Share of the entries that differ from another one in a quarter of the bits: hot buckets."""
_BLOCK = 200


def measure_lookups(folder: Path, entries: int) -> Iterator[str]:
    """Yield what an index of random hashes costs, beside faiss, checked by brute force."""
    yield f"{'':34}{'build CPU s':>12}{'MB':>8}{'lookups per CPU s':>19}"
    for kind, bits in BITS.items():
        radius = RADII[kind]
        hashes, queries = make_hashes(entries, bits, radius)
        before = seconds()
        write_index(folder / kind, hashes)
        built = (seconds() - before).cpu
        size = sum(path.stat().st_size for path in (folder / kind).iterdir())
        index = Index(folder / kind)
        index.nearest(queries[:10], radius)
        before = seconds()
        found = index.nearest(queries, radius)
        spent = (seconds() - before).cpu
        apart = brute_force(hashes, queries)
        exact = np.array_equal(found.distance, np.minimum(apart, radius + 1))
        yield (
            f"{f'altmill, {kind} within {radius} bits':<34}{built:>12.2f}{size / 1e6:>8.0f}"
            f"{QUERIES / spent:>19,.0f}  "
            + ("as brute force says" if exact else "NOT what brute force says")
            + f", {int((apart <= radius).sum()):,} of {QUERIES:,} found"
        )
        flat = faiss.IndexBinaryFlat(bits)
        flat.add(hashes.view(np.uint8))
        before = seconds()
        flat.search(queries[:_BLOCK].view(np.uint8), 1)
        spent = (seconds() - before).cpu
        yield f"{f'faiss IndexBinaryFlat, {kind}':<34}{'':>12}{'':>8}{_BLOCK / spent:>19,.0f}"


def make_hashes(entries: int, bits: int, radius: int) -> tuple[Words, Words]:
    """Return random hashes, and queries of which half are near one of them."""
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, (entries, bits // 64), np.uint64)
    alike = generator.choice(entries, int(entries * _LIKE_ANOTHER), replace=False)
    quarter = generator.integers(0, 2**64, (2, len(alike), bits // 64), np.uint64)
    hashes[alike] = hashes[alike[0]] ^ quarter[0] & quarter[1]
    queries = generator.integers(0, 2**64, (QUERIES, bits // 64), np.uint64)
    near = hashes[generator.integers(0, entries, QUERIES // 2)]
    for query in near:
        for bit in generator.choice(bits, generator.integers(0, radius + 5), replace=False):
            query[bit // 64] ^= np.uint64(1 << int(bit % 64))
    queries[: len(near)] = near
    return hashes, queries


def brute_force(hashes: Words, queries: Words) -> np.ndarray:
    """Return the distance of each query to the nearest of all hashes."""
    index = faiss.IndexBinaryFlat(hashes.shape[1] * 64)
    index.add(hashes.view(np.uint8))
    distances, _ = index.search(queries.view(np.uint8), 1)
    return distances[:, 0].astype(np.int64)
