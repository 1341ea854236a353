"""The two towers: an image in, or a text, and one state out.

Layers whose activations are not kept are computed again for their gradients; the names of weights
are the same either way.
"""

import importlib
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from filters.rule import RecipeError
from recaption.text import TextStack
from recaption.vision import VisionTransformer
from train.config import EFFICIENTNETS, ModelConfig

BATCH_NORM_MOMENTUM = 0.01
"""Weight of the newest batch: EfficientNet's 0.99 is that of the older ones.

Source: EfficientNet (arXiv:1905.11946), section 5.2; timm's own default is PyTorch's 0.1.
"""


def build_image_tower(config: ModelConfig) -> tuple[nn.Module, int]:
    """Build what turns pixels (n, 3, image_px, image_px) into states (n, width), and the width.

    Raises:
        RecipeError: timm is missing, or has no such tower.
    """
    if config.image_tower == "vit":
        return _Vit(config), config.vision_width
    if config.image_tower in EFFICIENTNETS:
        return _efficientnet(config)
    return _timm_tower(config)


class TextTower(nn.Module):
    """BERT: ids and mask, both (n, t), in, and the state of [CLS] out, (n, text_width)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stack = TextStack(config, about_images=False)
        if config.checkpoint_activations:
            for layer in self.stack.layers:
                _forget(layer.attention["encoder"])
                _forget(layer.mlp)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.stack(tokens, "encoder", mask)[:, 0]


class _Vit(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transformer = VisionTransformer(config)
        if config.checkpoint_activations:
            for layer in self.transformer.layers:
                _forget(layer)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.transformer(pixels)[:, 0]


def _efficientnet(config: ModelConfig) -> tuple[nn.Module, int]:
    """Build EfficientNet with TensorFlow's padding and without the classifier's convolution.

    timm's `tf_` models have the paper's padding (289 px end as 10 x 10), initial weights, epsilon
    of 1e-3, and stochastic depth; their momentum is PyTorch's.
    """
    name = config.image_tower.replace("efficientnet-", "tf_efficientnet_")
    tower = _create(config, name, bn_momentum=BATCH_NORM_MOMENTUM)
    width = tower.conv_head.in_channels
    tower.conv_head, tower.bn2, tower.num_features = nn.Identity(), nn.Identity(), width
    return tower, width


def _timm_tower(config: ModelConfig) -> tuple[nn.Module, int]:
    timm = _import_timm(config)
    name = config.image_tower.removeprefix("timm:")
    if not timm.is_model(name):
        raise RecipeError(
            f"model.image_tower must be known to timm, got {name!r}; choose one of "
            f"timm.list_models() of timm {timm.__version__}"
        )
    published = timm.get_pretrained_cfg(name)
    fixed = published is not None and published.fixed_input_size
    tower = _create(config, name, img_size=config.image_px if fixed else None)
    return tower, tower.head_hidden_size


def _create(config: ModelConfig, name: str, **options: Any) -> Any:
    timm = _import_timm(config)
    options["drop_path_rate"] = config.drop_path or None  # which timm takes as "not given"
    try:
        tower = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        raise RecipeError(
            f"model.image_tower must take model.drop_path, got {name!r}: {error}; set it to 0"
        ) from None
    if config.checkpoint_activations:
        tower.set_grad_checkpointing()
    return tower


def _import_timm(config: ModelConfig) -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise RecipeError(
            f"model.image_tower {config.image_tower} must have timm to be built, got: {error}; "
            'pip install "altmill[train]", or choose vit'
        ) from None


def _forget(layer: Any) -> None:
    """Let a layer keep its inputs alone; in place, and so that copies of it do so, too."""
    layer.__class__ = _forgetful(type(layer))


def _forgetful(kind: Any) -> type:
    class Forgetful(kind):
        def forward(self, *inputs: Any) -> Any:
            return checkpoint(super().forward, *inputs, use_reentrant=False)

    return Forgetful
