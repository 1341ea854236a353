"""What writes captions and what judges them: one protocol each, whatever is behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

FAILURES = {
    "empty": "nothing was written",
    "too_short": "fewer characters than the least that is kept",
    "too_long": "more characters than the most that is kept",
    "repeats": "the same words again and again",
    "undecodable": "the image's pixels cannot be read",
    "model_error": "the model raised an error on this image alone",
    "out_of_memory": "the device had no room for this image alone",
    "timeout": "the server did not answer in time, however often it was asked",
    "unreachable": "no connection, or one that broke, however often it was tried",
    "refused": "the model declined to describe the image",
    "malformed": "the server's answer is not what the protocol says",
}
"""Why a caption is missing, and what that means; `server_500` is any status a server answers."""


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of an image, or why there is none."""

    text: str
    """Empty where it failed."""
    draw: int
    """Which candidate of its image, from 0."""
    logprob: float | None = None
    """Sum over its tokens of the natural logarithm of how likely the model thought each."""
    tokens: int | None = None
    finish: str | None = None
    """`stop`, or `length` where it was cut."""
    failure: str | None = None
    """One of `FAILURES`, or `server_` and a status."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well a text fits an image."""

    itc: float
    """Cosine of their embeddings."""
    itm: float
    """Probability that they match."""


class Captioner(Protocol):
    """Writes captions of images."""

    spec: Mapping[str, Any]
    """All that is the same for every caption, in plain JSON values, for its provenance."""

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        """Write captions.

        Args:
            images: Bytes of decodable images.
            keys: Of the samples; they, not the neighbours, are what chance depends on.

        Returns:
            Of each image `decode.candidates` captions.  What fails for one image is told by its
            captions and raises nothing.
        """


class Scorer(Protocol):
    """Judges texts about images."""

    spec: Mapping[str, Any]
    """All that is the same for every score, in plain JSON values, for its provenance."""

    def score(self, images: Sequence[bytes], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Judge all texts of each image, which is encoded once."""
