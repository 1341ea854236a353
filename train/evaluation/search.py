"""Find images by an image, by words, or by an image with words added or taken away."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError
from train.evaluation.embeddings import INDEX, Index
from train.evaluation.encoder import Encoder, Floats, encode_texts
from train.evaluation.images import embed

TEXT_WEIGHT = 2.0
"""Of words, where an image weighs 1.  Source: ALIGN (arXiv:2102.05918), section 7, footnote."""

_ROWS = 1 << 18


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that was found."""

    number: int
    cosine: float
    about: dict[str, str]
    """`image_path` and `caption`, as the index tells them."""


def make_query(
    encoder: Encoder,
    *,
    images: Sequence[bytes] = (),
    texts: Sequence[str] = (),
    without: Sequence[str] = (),
    text_weight: float = TEXT_WEIGHT,
) -> Floats:
    """Add images and words up, take other words away, and return the sum (d,) at length 1.

    Raises:
        RecipeError: There is nothing to look for, or an image cannot be read.
    """
    if not (images or texts):
        raise RecipeError(
            "a search must have a text or an image, got neither; add --text or --image"
        )
    total: Floats = np.zeros(1)
    if images:
        seen = embed(encoder.encode_images, images)
        if seen.faults:
            raise RecipeError(
                f"images of a search must be readable, got {sum(seen.faults.values())} that are "
                "not; name others"
            )
        total = total + seen.vectors.sum(axis=0)
    for words, sign in ((texts, 1), (without, -1)):
        if words:
            total = total + sign * text_weight * encode_texts(encoder, words).sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


def search(index: Index, query: Floats, top: int = 10) -> list[Hit]:
    """Return the images whose cosine with a query is highest, the highest first.

    All of them are looked at, unless clip-retrieval has left an index of FAISS beside them and
    FAISS is installed; then it says where to look.

    Args:
        index: Embeddings.
        query: (d,), of length 1.
        top: How many.

    Raises:
        RecipeError: The query is of another model.
    """
    width = index.parts[0].shape[1]
    if query.shape != (width,):
        raise RecipeError(
            f"a query must be as wide as the index, {width}, got {len(query)}; embed by this model"
        )
    numbers = _by_faiss(index, query, top)
    if numbers is None:
        numbers = _by_all(index, query, top)
    cosines = [_cosine(index, number, query) for number in numbers]
    order = sorted(range(len(cosines)), key=lambda i: -cosines[i])
    return [Hit(int(numbers[i]), cosines[i], index.describe(int(numbers[i]))) for i in order]


def _by_faiss(index: Index, query: Floats, top: int) -> NDArray[np.int64] | None:
    file = index.folder / INDEX
    try:
        import faiss
    except ImportError:
        return None
    if not file.exists():
        return None
    _, numbers = faiss.read_index(str(file)).search(query[None].astype(np.float32), top)
    found: NDArray[np.int64] = numbers[0][numbers[0] >= 0]
    return found


def _by_all(index: Index, query: Floats, top: int) -> NDArray[np.int64]:
    best, numbers = np.empty(0), np.empty(0, np.int64)
    for part, start in zip(index.parts, index.starts, strict=True):
        for first in range(0, len(part), _ROWS):
            rows = part[first : first + _ROWS].astype(np.float32)
            best = np.concatenate([best, rows @ query.astype(np.float32)])
            numbers = np.concatenate([numbers, start + first + np.arange(len(rows))])
            kept = np.argsort(-best, kind="stable")[:top]
            best, numbers = best[kept], numbers[kept]
    return numbers


def _cosine(index: Index, number: int, query: Floats) -> float:
    part = int(np.searchsorted(index.starts, number, "right")) - 1
    vector = index.parts[part][number - index.starts[part]].astype(np.float64)
    return float(vector @ query)
