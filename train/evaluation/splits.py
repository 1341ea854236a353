"""Data sets that something is learnt from: training, validation and test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.rule import RecipeError
from train.evaluation.encoder import Encoder, Featured, Floats
from train.evaluation.images import embed
from train.evaluation.labelled import Labelled, from_rows, has_split, open_labelled

HELD_OUT = 0.2
"""Of the training images, where there is no validation set; VTAB's share (arXiv:1910.04867)."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class Splits:
    """Images to learn from, to choose by and to measure on; all with the same classes."""

    train: Labelled
    validation: Labelled
    test: Labelled
    held_out: bool
    """Whether the validation images were taken out of the training images."""


@dataclass(frozen=True, slots=True)
class Features:
    """Images as vectors."""

    vectors: Floats
    """(n, width)."""
    labels: NDArray[np.int64]
    faults: dict[str, int]


def open_splits(path: Path) -> Splits:
    """Open a folder with the folders train, test and perhaps validation, or a manifest of them.

    Raises:
        RecipeError: A part is missing, or the test set has a class that the training set has not.
    """
    train, test = open_labelled(path, "train"), open_labelled(path, "test")
    given = open_labelled(path, "validation") if has_split(path, "validation") else None
    return _joined(_stem(path), train, given, test)


def splits_from_rows(rows: pa.Table, path: Path, name: str, examples: int) -> Splits:
    """Make splits of a manifest's rows, of some examples: 800 and 200 of 1000."""
    train = from_rows(rows, path, "train", name)
    some = np.random.default_rng(_SEED).permutation(len(train.labels))[:examples]
    return _joined(name, train.some(np.sort(some)), None, from_rows(rows, path, "test", name))


def _stem(path: Path) -> str:
    return path.resolve().stem


def _joined(name: str, train: Labelled, given: Labelled | None, test: Labelled) -> Splits:
    train = replace(train, name=name)
    if given is None:
        chosen = np.random.default_rng(_SEED).random(len(train.labels)).argsort()
        cut = max(1, round(HELD_OUT * len(chosen)))
        given = train.some(np.sort(chosen[:cut]))
        train, held_out = train.some(np.sort(chosen[cut:])), True
    else:
        given, held_out = _aligned(given, train.classes), False
    seen = len(np.unique(train.labels))
    if seen < 2:
        raise RecipeError(
            f"{name} must have training images of two or more classes, got {seen}; add some"
        )
    return Splits(train, given, _aligned(test, train.classes), held_out)


def _aligned(data: Labelled, classes: Sequence[str]) -> Labelled:
    """Number the labels of a part as another part does."""
    places = {name: i for i, name in enumerate(classes)}
    unknown = [name for name in data.classes if name not in places]
    if unknown:
        raise RecipeError(
            f"{data.name} must have classes of the training set, got {unknown[0]!r}; remove it"
        )
    moved = np.array([places[name] for name in data.classes])
    return replace(data, classes=tuple(classes), labels=moved[data.labels])


def extractor(encoder: Encoder) -> tuple[Callable[[Sequence[bytes]], Floats], str]:
    """Return what makes features of images, and its name.

    A probe sees what the image tower ends in, before the projection, where the encoder offers it.
    """
    if isinstance(encoder, Featured):
        return cast(Featured, encoder).image_features, "before the projection"
    return encoder.encode_images, "embeddings"


def features(encode: Callable[[Sequence[bytes]], Floats], data: Labelled) -> Features:
    """Bring images to vectors, without those that cannot be read."""
    found = embed(encode, data.images)
    return Features(found.vectors, data.labels[found.at], data.faults | found.faults)


def all_faults(*parts: Features) -> dict[str, int]:
    """Add up what took no part."""
    names = {name for part in parts for name in part.faults}
    return {name: sum(part.faults.get(name, 0) for part in parts) for name in sorted(names)}
