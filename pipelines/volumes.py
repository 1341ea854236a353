"""How much of everything a filter run over a corpus works on.

How many n-grams are distinct follows Heaps' law: of n occurrences, `factor * n ** exponent`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from filters.recipe import Recipe
from pipelines.bundles import PIECE_ROWS, ROW_BYTES, bundle_rows
from pipelines.rows import BATCH_ROWS

Volumes = dict[str, float]

_LOOKUP_BYTES = 12
"""Of an n-gram in the lookup: its hash and its rank."""


class Heaps(NamedTuple):
    """How many n-grams are distinct.  Source: Heaps (1978), section 7.5."""

    factor: float
    exponent: float

    def distinct(self, occurrences: float) -> float:
        """Return how many of so many are distinct."""
        return float(min(occurrences, self.factor * occurrences**self.exponent))


def fit_heaps(occurrences: NDArray[Any], distinct: NDArray[Any]) -> Heaps:
    """Fit Heaps' law to counts of a growing corpus: a straight line through their logarithms."""
    exponent, intercept = np.polyfit(np.log(occurrences), np.log(distinct), 1)
    return Heaps(float(np.exp(intercept)), float(exponent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus, as far as its cost depends on it."""

    rows: float
    tokens: float
    """Of a caption, on average."""
    heaps: Heaps
    shard_rows: float
    image_bytes: float = 0.0
    """Of an image, on average; 0: there is metadata alone."""
    megapixels: float = 0.0
    """Of an image, on average."""
    decoded: float = 1.0
    """The share of images that are decoded: those of rows that the cheap rules keep."""
    kept: float = 1.0
    """The share of rows that stay."""


def measure_volumes(
    corpus: Corpus,
    recipe: Recipe,
    partitions: int,
    distinct: float | None = None,
    piece_rows: int = PIECE_ROWS,
) -> Volumes:
    """Return how much of everything a run works on.

    The cells that ranks are planned by are, in a partition, as many as the square root of its
    distinct n-grams, times a constant (ours, measured on 12,000 to 770,000 of them).  What is sent
    is cut into slices once a bundle, or about once a full batch of it.

    Args:
        corpus: The corpus.
        recipe: The recipe.
        partitions: Of the exchange.
        distinct: How many n-grams are distinct, where that was counted.
        piece_rows: Of a bundle, per partition.
    """
    rows, batch_rows = corpus.rows, min(corpus.shard_rows, BATCH_ROWS)
    shards, batches = -(-rows // corpus.shard_rows), -(-rows // batch_rows)
    bundled = bundle_rows(partitions, piece_rows) / max(1.0, corpus.image_bytes / ROW_BYTES)
    bundles = -(-rows // max(corpus.shard_rows, bundled))
    occurrences = max(0.0, 2 * corpus.tokens - 1) * rows
    distinct = corpus.heaps.distinct(occurrences) if distinct is None else distinct
    images = rows if corpus.image_bytes else 0.0
    decodes = recipe.images.decode or recipe.nsfw.model or recipe.hashing
    decoded = images * corpus.decoded if decodes else 0.0
    written = rows * corpus.kept if recipe.materialise else 0.0
    listed = min(distinct, recipe.tables.max_ngrams)
    return {
        "one": 1.0,
        "rows": rows,
        "tokens": rows * corpus.tokens,
        "sent_ngrams": batches * corpus.heaps.distinct(occurrences / batches),
        "distinct": distinct,
        "listed": listed,
        "cells": (distinct * partitions) ** 0.5,
        "table_mb": listed * _LOOKUP_BYTES / 1e6,
        "images": images,
        "image_mb": images * corpus.image_bytes / 1e6,
        "decoded": decoded,
        "decoded_mpx": decoded * corpus.megapixels,
        "hashed": decoded if recipe.hashing else 0.0,
        "grouped": rows if recipe.duplicate else 0.0,
        "kept": rows * corpus.kept,
        "written": written,
        "written_mb": written * corpus.image_bytes / 1e6,
        "partitions": partitions,
        "shards": shards,
        "bundles": bundles,
        "batches": batches,
        "slices": max(bundles, -(-rows // BATCH_ROWS)) * partitions,
        "reads": bundles * partitions,
        "squares": partitions**2,
    }
