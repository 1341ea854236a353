"""Models too small to know anything, for tests."""

from typing import Any

import torch

from recaption.blip import Blip, BlipConfig

VOCABULARY = 40
PAD, UNK, CLS, SEP, MASK, DEC, ENC = range(7)


def config(**changes: Any) -> BlipConfig:
    sizes = {
        "image_px": 24,
        "patch_px": 8,
        "vision_width": 16,
        "vision_layers": 2,
        "vision_heads": 2,
        "text_width": 24,
        "text_layers": 2,
        "text_heads": 3,
        "embed_width": 8,
        "max_tokens": 16,
        "vocabulary": VOCABULARY,
    }
    return BlipConfig(**(sizes | changes))


def blip(seed: int = 0, scale: float = 12.0, **changes: Any) -> Blip:
    """Return a model with random weights, of strong opinions: `scale` makes its weights larger."""
    torch.manual_seed(seed)
    model = Blip(config(**changes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "norm" not in name:
                weight.mul_(scale)
    return model


def pixels(count: int, seed: int = 1, side: int = 24) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def texts(count: int, length: int, first: int, seed: int = 2) -> torch.Tensor:
    """Return random ids, (count, length), that begin with `first`."""
    ids = torch.randint(
        ENC + 1, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed)
    )
    ids[:, 0] = first
    return ids
