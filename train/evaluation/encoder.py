"""What is evaluated: anything that brings images and texts to one space."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.floating[Any]]

_TEXTS_AT_ONCE = 4096


class Encoder(Protocol):
    """Two towers that end in one space."""

    @property
    def model(self) -> str:
        """Name of the architecture; the results are filed under it."""

    @property
    def pretrained(self) -> str:
        """Which weights: a tag, or the run's folder."""

    def encode_images(self, images: Sequence[bytes]) -> Floats:
        """Return float32 embeddings (n, d) of length 1.

        Args:
            images: Encoded files, in a format that `recaption.pictures.FORMATS` names.
        """

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Return float32 embeddings (n, d) of length 1."""


@runtime_checkable
class Featured(Protocol):
    """An encoder that also gives what its image tower ends in, before the projection."""

    def image_features(self, images: Sequence[bytes]) -> Floats:
        """Return float32 features (n, width), of any length."""


@runtime_checkable
class Tunable(Protocol):
    """An encoder whose image tower can be trained further."""

    @property
    def num_features(self) -> int:
        """Width of what the tower returns."""

    def image_tower(self) -> "torch.nn.Module":
        """Return a copy of the tower: of `pixels` it makes features (n, num_features)."""

    def pixels(self, images: Sequence[bytes]) -> "torch.Tensor":
        """Decode images as for evaluation: uint8 (n, 3, px, px)."""


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> Floats:
    """Encode any number of texts, and check what comes back.

    Raises:
        RecipeError: An embedding is not finite.
    """
    parts = [
        encoder.encode_texts(texts[at : at + _TEXTS_AT_ONCE])
        for at in range(0, len(texts), _TEXTS_AT_ONCE)
    ]
    return checked(np.concatenate(parts), "texts")


def checked(vectors: Floats, of: str) -> Floats:
    """Return embeddings that are finite.

    Raises:
        RecipeError: They are not.
    """
    broken = int((~np.isfinite(vectors).all(axis=1)).sum())
    if broken:
        raise RecipeError(
            f"embeddings of {of} must be finite, got NaN or infinity in {broken} of "
            f"{len(vectors)}; evaluate a checkpoint from before the loss diverged"
        )
    return vectors
