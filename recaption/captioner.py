"""What writes captions and what judges them: one protocol each, whatever is behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from filters.rule import RecipeError
from recaption.config import Decode
from recaption.extra import check_installed

if TYPE_CHECKING:
    from recaption.checking import Bounds
    from recaption.config import Server

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

INSTRUCTION = "Describe this image in one sentence."
"""What a model that chats is told where `decode.prompt` is empty; ours."""


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


def failed(failure: str, candidates: int) -> list[Caption]:
    """Return what an image has whose captions all failed."""
    return [Caption("", draw, failure=failure) for draw in range(candidates)]


@dataclass(frozen=True, slots=True)
class Score:
    """How well a text fits an image."""

    itc: float
    """Cosine of their embeddings."""
    itm: float
    """Probability that they match."""


class Captioner(Protocol):
    """Writes captions of images."""

    @property
    def spec(self) -> Mapping[str, Any]:
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

    @property
    def spec(self) -> Mapping[str, Any]:
        """All that is the same for every score, in plain JSON values, for its provenance."""

    def score(self, images: Sequence[bytes], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Judge all texts of each image, which is encoded once."""


def open_captioner(
    name: str,
    decode: Decode,
    *,
    bounds: "Bounds | None" = None,
    server: "Server | None" = None,
    device: str = "",
    batch: int = 0,
) -> Captioner:
    """Open a captioner, and see that it works.

    Args:
        name: `blip:FOLDER-OR-ID`, our own model or a published BLIP; `hf:FOLDER-OR-ID`, any
            image-text-to-text model of `transformers`; `openai:URL#MODEL`, a server.
        decode: How captions are written.
        bounds: What is no caption.
        server: How a server is asked.
        device: Of torch; empty for the GPU where there is one.
        batch: Images at once; 0 for what suits the device.

    Returns:
        One whose captions are clean, and as many as `decode.candidates` for each image.

    Raises:
        RecipeError: The name says no captioner, the extra is not installed, or it does not work.
    """
    from recaption.checking import Bounds, Checked

    opened = _opened(name, decode, server, device, batch)
    return Checked(opened, decode.candidates, bounds or Bounds())


def _opened(
    name: str, decode: Decode, server: "Server | None", device: str, batch: int
) -> Captioner:
    kind, _, rest = name.partition(":")
    if not rest or kind not in ("blip", "hf", "openai"):
        raise RecipeError(
            "captioner must be like blip:FOLDER-OR-ID, hf:FOLDER-OR-ID or openai:URL#MODEL, got "
            f"{name!r}; correct it"
        )
    if kind == "openai":
        from recaption.config import Server
        from recaption.server import ServerCaptioner

        return ServerCaptioner(name, decode, server or Server())
    if kind == "hf" and "://" in rest:
        raise RecipeError(
            f"a model of transformers must be a folder of this machine or a hub id, got {name}; "
            "copy it"
        )
    check_installed("captioner", "name a server, openai:URL#MODEL")
    if kind == "hf":
        from recaption.hub import HubCaptioner

        return HubCaptioner(name, decode, device, batch)
    from recaption.builtin import BlipCaptioner

    return BlipCaptioner(rest, decode, device, batch)


def open_scorer(name: str, *, device: str = "", batch: int = 0) -> Scorer:
    """Open a scorer, and see that it works.

    Args:
        name: `blip:FOLDER-OR-ID`, our own filter or a published BLIP for retrieval.
        device: Of torch; empty for the GPU where there is one.
        batch: Images at once; 0 for what suits the device.

    Raises:
        RecipeError: The name says no scorer, the extra is not installed, or it does not work.
    """
    kind, _, rest = name.partition(":")
    if not rest or kind != "blip":
        raise RecipeError(f"scorer must be like blip:FOLDER-OR-ID, got {name!r}; correct it")
    check_installed("scorer")
    from recaption.builtin import BlipScorer

    return BlipScorer(rest, device, batch)
