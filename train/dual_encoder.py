"""The dual encoder: an image tower and a text tower that meet in one space.

Source: Jia et al., ALIGN (arXiv:2102.05918), section 4.1.  Towers may run in bfloat16; projections
and lengths are float32.
"""

import contextlib
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from recaption.feed import autocast
from recaption.pixels import scale_colours
from recaption.text import initialise
from train.config import MAX_TEMPERATURE, MIN_TEMPERATURE, ModelConfig
from train.towers import TextTower, build_image_tower

MIN_LOG_SCALE, MAX_LOG_SCALE = -math.log(MAX_TEMPERATURE), -math.log(MIN_TEMPERATURE)


class DualEncoder(nn.Module):
    """The model.  Shapes: n pairs, t tokens.

    Raises:
        RecipeError: The image tower cannot be built.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image, width = build_image_tower(config)
        self.text = TextTower(config)
        bias = config.projection_bias
        same = width == config.embed_width
        self.image_projection = (
            nn.Identity() if same else nn.Linear(width, config.embed_width, bias)
        )
        self.text_projection = nn.Linear(config.text_width, config.embed_width, bias)
        for projection in (self.image_projection, self.text_projection):
            initialise(projection)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        """Logarithm of what cosines are multiplied by, the inverse temperature; float32."""
        if config.channels_last:
            self.image.to(memory_format=torch.channels_last)
        if config.compile:
            # Its own random numbers are others without gradients, and could not be replayed
            for tower in (self.image, self.text):
                tower.compile(options={"fallback_random": True})

    def forward(
        self, images: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images and texts as vectors, and the log scale.

        All parameters have a part in it, as DDP wants.
        """
        # A copy, as hooks that wrappers put on what a model returns would stay on the parameter
        return self.encode_image(images), self.encode_text(tokens, mask), self.log_scale.clone()

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return vectors of length 1, (n, embed_width), float32.

        Args:
            images: Uint8, (n, 3, image_px, image_px).
        """
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        pixels = scale_colours(images, self.config.colour_mean, self.config.colour_std)
        with self._precision(images.device):
            states = self.image(pixels)
        return _project(self.image_projection, states)

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return vectors of length 1, (n, embed_width), float32.

        Args:
            tokens: Int64, (n, t), beginning with [CLS].
            mask: Bool, (n, t), True at tokens.
        """
        with self._precision(tokens.device):
            states = self.text(tokens, mask)
        return _project(self.text_projection, states)

    def clamp_scale(self) -> None:
        """Bring the log scale back into its bounds; our optimizers call it after each step.

        The parameter itself is clamped: in the forward pass, a bound would take its gradient, and
        it could not come back.
        """
        with torch.no_grad():
            self.log_scale.clamp_(MIN_LOG_SCALE, MAX_LOG_SCALE)

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return autocast(device) if self.config.precision == "bf16" else contextlib.nullcontext()


def _project(layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
    with torch.autocast(states.device.type, enabled=False):
        return functional.normalize(layer(states.float()), dim=-1)
