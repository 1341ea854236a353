"""What a dual encoder and its optimizer can be told: sections [model] and [optimizer]."""

from dataclasses import dataclass
from typing import ClassVar

from filters.parsing import Bound, check_bounds
from recaption.config import Part
from recaption.learning import DECAYS

EFFICIENTNETS = tuple(f"efficientnet-{size}" for size in (*(f"b{i}" for i in range(9)), "l2"))
PRECISIONS = ("bf16", "fp32")
OPTIMIZERS = ("lamb", "adamw")
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 1.0
"""Bounds of the temperature.  Source of 0.01: CLIP (arXiv:2103.00020), section 2.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Section [model]: the towers, what they meet in, and how they compute.

    Image towers are EfficientNet (`efficientnet-b0` to `-b8`, `efficientnet-l2`), our vision
    transformer (`vit`, with the fields `vision_*`, `patch_px` and `convolutions`), or any of timm's
    (`timm:NAME`).  The text tower is BERT.  The defaults are ALIGN's (arXiv:2102.05918): section
    6.1's B7 and BERT-Base.

    Raises:
        RecipeError: A setting is out of its bounds, or one that must divide another does not.
    """

    image_tower: str = "efficientnet-b7"
    image_px: int = 289
    """Side of the square that the tower sees.  Source: ALIGN, section 5."""
    colour_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Of red, green and blue in [0, 1].  Source: ImageNet's, as in EfficientNet's own code."""
    colour_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    drop_path: float = 0.2
    """Chance to leave out the last block; 0 before the first, and even steps between.

    Source: EfficientNet (arXiv:1905.11946), section 5.2: stochastic depth with survival 0.8.
    """
    patch_px: int = 16
    convolutions: bool = False
    """Of `vit`; see `recaption.config.BlipConfig.convolutions`."""
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    vision_epsilon: float = 1e-6
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_epsilon: float = 1e-12
    max_tokens: int = 64
    """Of a text, specials included.  Source: ALIGN, section 5."""
    vocabulary: int
    """Number of token ids, specials included."""
    dropout: float = 0.1
    """In the text tower, while training.  Source: BERT (arXiv:1810.04805), appendix A.2."""
    embed_width: int = 640
    """Of the vectors that images and texts are compared by.  Source: ALIGN, section 6.1."""
    projection_bias: bool = True
    """Of the layers from a tower's width to `embed_width`; CLIP's have none.

    Texts always have one.  Images have one where the widths differ: ALIGN's B7 has none.
    """
    temperature: float = 1.0
    """What it is at the start.  Source: ALIGN, section 5; CLIP's is 0.07."""
    precision: str = "bf16"
    """Of the towers on a GPU, `bf16` or `fp32`; projections and lengths are float32 always.

    On a CPU all is float32.
    """
    channels_last: bool = True
    """Lay images out with their channels last, as convolutions on a GPU are fastest."""
    checkpoint_activations: bool = False
    """Keep the inputs of layers alone, and compute the layers again for their gradients."""
    compile: bool = False
    """Compile each tower by `torch.compile`."""

    parts: ClassVar[tuple[Part, ...]] = ("encoder",)
    """Roles of the text stack."""

    def __post_init__(self) -> None:
        rules = (
            *((name, getattr(self, name) >= 1, "1 or more") for name in _COUNTS),
            *((name, len(getattr(self, name)) == _COLOURS, "three numbers") for name in _TRIPLES),
            ("colour_std", all(value > 0 for value in self.colour_std), "above 0"),
            ("image_tower", _is_tower(self.image_tower), f"one of {', '.join(TOWERS)}"),
            ("drop_path", 0 <= self.drop_path < 1, "in [0, 1)"),
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
            (
                "temperature",
                MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE,
                f"in [{MIN_TEMPERATURE}, {MAX_TEMPERATURE}]",
            ),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            ("text_width", self.text_width % self.text_heads == 0, "a multiple of text_heads"),
            *(self._vit_rules() if self.image_tower == "vit" else ()),
        )
        check_bounds(self, "model", rules)

    def _vit_rules(self) -> tuple[Bound, ...]:
        power = self.patch_px.bit_count() == 1
        return (
            ("drop_path", self.drop_path == 0, "0 with image_tower vit"),
            ("vision_width", self.vision_width % self.vision_heads == 0, "of whole vision_heads"),
            ("image_px", self.image_px % self.patch_px == 0, f"a multiple of {self.patch_px}"),
            ("patch_px", power or not self.convolutions, "a power of 2 with convolutions"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Section [optimizer]: the rule that weights are changed by, and its learning rate.

    The defaults are ALIGN's (arXiv:2102.05918), section 5, where it says them.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    name: str = "lamb"
    """`lamb` or `adamw`."""
    learning_rate: float = 1e-3
    warmup_steps: int = 10_000
    decay: str = "linear"
    """How the learning rate falls after the warm-up: `cosine` or `linear` to 0, or `none`."""
    weight_decay: float = 1e-5
    """Of matrices and kernels only."""
    beta1: float = 0.9
    beta2: float = 0.999
    """Source of both: LAMB (arXiv:1904.00962), section 4; CLIP's beta2 is 0.98 for transformers."""
    epsilon: float = 1e-6
    """Source: LAMB's published code; AdamW's is 1e-8 by custom, and 1e-6 for CLIP's."""

    def __post_init__(self) -> None:
        rules = (
            ("name", self.name in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("warmup_steps", self.warmup_steps >= 0, "0 or more"),
            ("decay", self.decay in DECAYS, f"one of {', '.join(DECAYS)}"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("beta1", 0 <= self.beta1 < 1, "in [0, 1)"),
            ("beta2", 0 <= self.beta2 < 1, "in [0, 1)"),
            ("epsilon", self.epsilon > 0, "above 0"),
        )
        check_bounds(self, "optimizer", rules)


TOWERS = (*EFFICIENTNETS, "vit", "timm:NAME")

_COUNTS = (
    "image_px",
    "patch_px",
    "vision_width",
    "vision_layers",
    "vision_heads",
    "text_width",
    "text_layers",
    "text_heads",
    "max_tokens",
    "vocabulary",
    "embed_width",
)
_TRIPLES = ("colour_mean", "colour_std")
_COLOURS = 3


def _is_tower(name: str) -> bool:
    return name in EFFICIENTNETS or name == "vit" or (name.startswith("timm:") and len(name) > 5)
