"""What models and servers can be told: sections [model], [decode] and [server] of a recipe."""

import math
import threading
from dataclasses import dataclass
from typing import Literal

from filters.parsing import check_bounds
from filters.rule import RecipeError

Part = Literal["encoder", "decoder"]
"""A role of the text stack: it reads texts, or writes them."""
STRATEGIES = ("nucleus", "greedy", "beam")

_COUNTS = ("vision_layers", "text_layers", "embed_width", "max_tokens", "vocabulary")
_DIVIDES = (
    ("image_px", "patch_px"),
    ("vision_width", "vision_heads"),
    ("text_width", "text_heads"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlipConfig:
    """Size of a model; BLIP-base's is the default, but for the vocabulary.

    Raises:
        RecipeError: A number is not positive, or one that must divide another does not.
    """

    image_px: int = 384
    """Side of the square that images are squeezed into."""
    patch_px: int = 16
    convolutions: bool = False
    """Look at an image by small convolutions, each of which halves it, and not by whole patches.

    From 5,000 images of 48 px, a network of three layers told eight shapes apart in 59 % of new
    ones so, and in 20 % by patches, after 30 s of one core.  BLIP has none.  Source: Xiao et al.,
    "Early convolutions help transformers see better" (arXiv:2106.14881).
    """
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    embed_width: int = 256
    """Of the vectors that images and texts are compared by."""
    max_tokens: int = 64
    """Of a text, specials included: one learned position each."""
    vocabulary: int
    """Number of token ids, specials included."""
    dropout: float = 0.0
    """In the text stack, while training; BLIP's is 0.1."""
    vision_epsilon: float = 1e-6
    text_epsilon: float = 1e-12
    encoder: bool = True
    """Has the text encoder: contrast and matching."""
    decoder: bool = True
    """Has the text decoder: writing."""

    def __post_init__(self) -> None:
        for name in (*(name for pair in _DIVIDES for name in pair), *_COUNTS):
            if getattr(self, name) < 1:
                value = getattr(self, name)
                raise RecipeError(f"model.{name} must be at least 1, got {value}; raise it")
        for whole, part in _DIVIDES:
            if getattr(self, whole) % getattr(self, part):
                raise RecipeError(
                    f"model.{whole} must be a multiple of model.{part}, got {getattr(self, whole)} "
                    f"and {getattr(self, part)}; change one of them"
                )
        if self.convolutions and self.patch_px.bit_count() != 1:
            raise RecipeError(
                "model.patch_px must be a power of 2 with model.convolutions, got "
                f"{self.patch_px}; change one of them"
            )
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"model.dropout must be in [0, 1), got {self.dropout}; lower it")
        if not self.parts:
            raise RecipeError(
                "model.encoder or model.decoder must be true, got neither; set one of them"
            )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The roles of the text stack that the model has weights for."""
        return (*(("encoder",) if self.encoder else ()), *(("decoder",) if self.decoder else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """How captions are written.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    strategy: str = "nucleus"
    """`nucleus` draws from the likeliest tokens, `greedy` takes the likeliest, `beam` searches."""
    top_p: float = 0.9
    """Nucleus: tokens are drawn from the fewest that together are this probable.

    0.9 is what BLIP (arXiv:2201.12086, section 4.3) writes web captions with.
    """
    temperature: float = 1.0
    """Nucleus: what logits are divided by."""
    beams: int = 3
    min_tokens: int = 5
    """Of a caption, neither the prompt's nor [SEP]; as `max_tokens`."""
    max_tokens: int = 20
    """5 to 20 are salesforce/BLIP's, configs/caption_coco.yaml."""
    repetition_penalty: float = 1.0
    """Above 1, a token that is there already becomes less likely: CTRL (arXiv:1909.05858)."""
    candidates: int = 1
    """Captions of each image; beam search gives its best ones."""
    prompt: str = ""
    """What a caption begins with; not part of it."""
    seed: int = 0
    """Of nucleus sampling, with the sample's key and the number of the draw."""

    def __post_init__(self) -> None:
        rules = (
            ("strategy", self.strategy in STRATEGIES, f"one of {', '.join(STRATEGIES)}"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("temperature", self.temperature > 0, "above 0"),
            ("beams", self.beams >= 1, "at least 1"),
            ("min_tokens", 0 <= self.min_tokens <= self.max_tokens, "in [0, max_tokens]"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("candidates", 1 <= self.candidates <= self._most(), f"in [1, {self._most()}]"),
        )
        check_bounds(self, "decode", rules)

    def _most(self) -> int:
        """Return how many different candidates the strategy can give."""
        return {"greedy": 1, "beam": self.beams}.get(self.strategy, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is asked; TOML section [server].

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    api_key_env: str = ""
    """Name of the environment's variable that holds the key; empty: none is sent."""
    max_requests: int = 32
    """Requests that are under way at once."""
    timeout_s: float = 120.0
    """An answer must be there, whole, after this time."""
    attempts: int = 4
    """How often to ask, in all, where it may help: statuses 408, 429 and 5xx, timeouts and broken
    connections."""
    backoff_s: float = 1.0
    """The longest wait before the second attempt; each further one may take twice as long.

    Half of it is chance, so that requests that failed together do not return together.
    """
    max_wait_s: float = 60.0
    """The longest wait before any attempt, whatever `Retry-After` says."""
    max_side_px: int = 768
    """Larger images are shrunk to it before they are sent; the server resizes them once more."""

    def __post_init__(self) -> None:
        rules = (
            ("max_requests", self.max_requests >= 1, "at least 1"),
            ("timeout_s", 0 < self.timeout_s <= threading.TIMEOUT_MAX, "above 0"),
            ("attempts", self.attempts >= 1, "at least 1"),
            ("backoff_s", 0 <= self.backoff_s < math.inf, "at least 0"),
            ("max_wait_s", 0 <= self.max_wait_s < math.inf, "at least 0"),
            ("max_side_px", self.max_side_px >= 1, "at least 1"),
        )
        check_bounds(self, "server", rules)
