"""Dual encoders too small to know anything, and batches for them."""

from typing import Any

import torch

from train.batch import Batch
from train.config import ModelConfig
from train.dual_encoder import DualEncoder

VOCABULARY = 40
TOKENS = 8


def config(**changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {
        "image_tower": "vit",
        "image_px": 32,
        "patch_px": 16,
        "drop_path": 0.0,
        "vision_width": 16,
        "vision_layers": 2,
        "vision_heads": 2,
        "text_width": 24,
        "text_layers": 2,
        "text_heads": 3,
        "embed_width": 12,
        "max_tokens": TOKENS,
        "vocabulary": VOCABULARY,
        "dropout": 0.0,
    }
    return ModelConfig(**(sizes | changes))


def encoder(seed: int = 0, **changes: Any) -> DualEncoder:
    torch.manual_seed(seed)
    return DualEncoder(config(**changes))


def batch(count: int, seed: int = 1, px: int = 32) -> Batch:
    """Return images of four random colours each, and random texts of 3 to 8 tokens."""
    chance = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, TOKENS + 1, (count, 1), generator=chance)
    mask = torch.arange(TOKENS) < lengths
    tokens = torch.randint(5, VOCABULARY, (count, TOKENS), generator=chance) * mask
    tokens[:, 0] = 2
    colours = torch.randint(0, 256, (count, 3, 2, 2), generator=chance, dtype=torch.uint8)
    return Batch(
        images=colours.repeat_interleave(px // 2, 2).repeat_interleave(px // 2, 3),
        tokens=tokens,
        mask=mask,
        texts=torch.randint(0, count, (count,), generator=chance),
        keys=[f"{place:09}" for place in range(count)],
    )
