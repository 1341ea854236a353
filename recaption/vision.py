"""The vision transformer of BLIP: patches in, one state for each of them and for the image out.

Source: Li et al., BLIP (arXiv:2201.12086), section 3.1; the pre-norm transformer of Dosovitskiy et
al. (arXiv:2010.11929) with LayerNorm over all of its states.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

MLP_RATIO = 4
"""Width of the hidden layer of an MLP, in widths of its transformer."""
INITIAL_STD = 0.02
"""Of all weights but those of LayerNorm; both BERT's and the vision transformer's."""


class VisionTransformer(nn.Module):
    """Turn pictures (b, 3, image_px, image_px) into states (b, 1 + patches, width), [CLS] first."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, patches = config.vision_width, (config.image_px // config.patch_px) ** 2
        self.patches: nn.Module = nn.Conv2d(3, width, config.patch_px, config.patch_px)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.vision_layers))
        self.norm = nn.LayerNorm(width, config.vision_epsilon)
        nn.init.trunc_normal_(self.start, std=INITIAL_STD)
        nn.init.trunc_normal_(self.positions, std=INITIAL_STD)
        self.apply(_initialise)
        if config.convolutions:
            self.patches = _convolutions(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patches(pixels.to(self.start.dtype)).flatten(2).transpose(1, 2)
        start = self.start.expand(len(pixels), -1, -1).to(patches.dtype)
        states = torch.cat((start, patches), 1) + self.positions
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


def _convolutions(config: Any) -> nn.Sequential:
    """Return what halves an image until a state is a patch, with twice the channels each time.

    The weights are He et al.'s (arXiv:1502.01852), with which it learns half again as fast here.
    """
    halvings = config.patch_px.bit_length() - 1
    channels = [3, *(max(8, config.vision_width >> left) for left in reversed(range(halvings)))]
    steps: list[nn.Module] = []
    for before, after in pairwise(channels):
        steps += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(1, after), nn.GELU()]
    stem = nn.Sequential(*steps, nn.Conv2d(channels[-1], config.vision_width, 1))
    for step in stem:
        if isinstance(step, nn.Conv2d):
            nn.init.kaiming_normal_(step.weight, nonlinearity="relu")
            nn.init.zeros_(step.bias)
    return stem


class _Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.vision_width
        self.heads = config.vision_heads
        self.attention_norm = nn.LayerNorm(width, config.vision_epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, config.vision_epsilon)
        self.widen = nn.Linear(width, MLP_RATIO * width)
        self.activate = nn.GELU()
        self.narrow = nn.Linear(MLP_RATIO * width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        count, length, width = states.shape
        fused = self.qkv(self.attention_norm(states)).view(
            count, length, 3, self.heads, width // self.heads
        )
        query, key, value = fused.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        states = states + self.out(attended.transpose(1, 2).reshape(count, length, width))
        return states + self.narrow(self.activate(self.widen(self.mlp_norm(states))))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
        nn.init.zeros_(module.bias)
