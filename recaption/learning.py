"""What learning can be told: sections of the settings, checked before any work."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from filters.parsing import check_bounds
from recaption.config import BlipConfig

DECAYS = ("cosine", "linear", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Section [vocabulary]: which tokens captions are cut into."""

    size: int = 20_000
    """Tokens at most of the vocabulary that is learnt from the captions of both kinds."""
    path: str = ""
    """A vocab.txt to use as it is, such as BERT's; empty: one is learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What sections [pretrain], [captioner] and [filter] share.

    The defaults that carry no source are for a GPU with BLIP-base; a recipe for a small model says
    its own.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int
    decay: str = "cosine"
    """How the learning rate falls after the warm-up: `cosine` or `linear` to 0, or `none`.

    Source of the default: salesforce/BLIP, utils.py, for fine-tuning.
    """
    weight_decay: float = 0.05
    """Of matrices only.  Source: BLIP, section 4.1."""
    clip_norm: float = 0.0
    """Longest gradient, 0 for no bound; BLIP has none.

    Learning the sample's shape words alone, a small model told 60 % of them after 400 steps
    without a bound, and 21 % with one of 1.0.
    """
    crop_share: float = 0.5
    """The smallest window of an image that is learnt from, as a share of its area.

    Source of the default: salesforce/BLIP, data/__init__.py.
    """

    def __post_init__(self) -> None:
        rules = (
            ("steps", self.steps >= 1, "1 or more"),
            ("batch", self.batch >= 2, "2 or more"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("warmup_steps", 0 <= self.warmup_steps <= self.steps, "from 0 to steps"),
            ("decay", self.decay in DECAYS, f"one of {', '.join(DECAYS)}"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("clip_norm", self.clip_norm >= 0, "0 or more"),
            ("crop_share", 0 < self.crop_share <= 1, "above 0 and at most 1"),
        )
        check_bounds(self, self.section, rules)

    @property
    def section(self) -> str:
        """The section's name."""
        return type(self).__name__.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrain(Stage):
    """Section [pretrain]: contrast, matching and writing, on pairs of both kinds."""

    steps: int = 100_000
    """Source: about BLIP's 20 epochs over 14 million pairs, section 4.1."""
    batch: int = 2880
    """Source: BLIP, section 4.1."""
    learning_rate: float = 3e-4
    """Source: BLIP, section 4.1."""
    warmup_steps: int = 3000
    """Source: salesforce/BLIP, configs/pretrain.yaml."""
    queue: int = 0
    """Pairs of earlier batches to contrast with, by a slow copy of the model; 0: neither.

    BLIP's is 57,600, of 20 batches.  It costs a second pass through both encoders, and a queue that
    holds a good part of the pairs teaches a small corpus nothing.
    """
    momentum: float = 0.995
    """How slowly the copy follows.  Source: salesforce/BLIP, blip_pretrain.py."""
    alpha: float = 0.4
    """How far the copy's view softens the targets.  Source: salesforce/BLIP, pretrain.yaml."""
    alpha_steps: int = 10_000
    """Steps in which alpha rises to that, from 0.  Source: 2 epochs of BLIP's, pretrain.py."""

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        rules = (
            ("queue", self.queue >= 0, "0 or more"),
            ("momentum", 0 <= self.momentum <= 1, "from 0 to 1"),
            ("alpha", 0 <= self.alpha <= 1, "from 0 to 1"),
            ("alpha_steps", self.alpha_steps >= 1, "1 or more"),
        )
        check_bounds(self, "pretrain", rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioner(Stage):
    """Section [captioner]: writing, on clean pairs."""

    steps: int = 2000
    """Source: about BLIP's 5 epochs over COCO's 113,000 images, caption_coco.yaml."""
    batch: int = 256
    """Source: salesforce/BLIP, configs/caption_coco.yaml: 32 on each of 8 GPUs."""
    learning_rate: float = 1e-5
    """Source: salesforce/BLIP, configs/caption_coco.yaml."""
    warmup_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Stage):
    """Section [filter]: contrast and matching, on clean pairs."""

    steps: int = 2000
    """Source: about BLIP's 6 epochs over COCO's 113,000 images, retrieval_coco.yaml."""
    batch: int = 256
    """Source: salesforce/BLIP, configs/retrieval_coco.yaml: 32 on each of 8 GPUs."""
    learning_rate: float = 1e-5
    """Source: salesforce/BLIP, configs/retrieval_coco.yaml."""
    warmup_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Section [calibration]: how sure the filter must be before it calls a caption matched."""

    precision: float = 0.95
    """Share of the captions called matched that shall be."""
    prior: float = 0.5
    """Share of the captions judged that match, as is assumed.

    Synthetic captions of BLIP were called unmatched at 19 to 25 % (table 2), raw ones more often.
    """

    def __post_init__(self) -> None:
        names = ("precision", "prior")
        rules = [(name, 0 < getattr(self, name) < 1, "above 0 and below 1") for name in names]
        check_bounds(self, "calibration", rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """All that decides what is learnt from given pairs."""

    model: BlipConfig = field(default_factory=lambda: BlipConfig(vocabulary=1))
    """Its vocabulary is whatever section [vocabulary] leads to."""
    vocabulary: Vocabulary = Vocabulary()
    pretrain: Pretrain = Pretrain()
    captioner: Captioner = Captioner()
    filter: Filter = Filter()
    calibration: Calibration = Calibration()
    held_out_share: float = 0.1
    """Of the clean pairs, chosen by their keys; nothing is learnt from them."""
    checkpoint_steps: int = 500
    """A killed run loses so many steps at most."""
    pixels_in_file: bool = False
    """Keep the pixels to learn from in a file, not in memory: 442 kB an image at 384 px."""
    seed: int = 0

    def __post_init__(self) -> None:
        rules = (
            ("held_out_share", 0 < self.held_out_share < 1, "above 0 and below 1"),
            ("checkpoint_steps", self.checkpoint_steps >= 1, "1 or more"),
            ("seed", 0 <= self.seed < 2**32, "from 0 to 2^32 - 1"),
        )
        check_bounds(self, "", rules)


def fingerprint(*parts: Any) -> str:
    """SHA-256, in hex, of settings and plain values."""
    plain = [part if isinstance(part, str | int | float) else asdict(part) for part in parts]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
