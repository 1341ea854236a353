"""Tiny BLIP models as `transformers` writes them; its answers are what ours must be."""

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.recaption import tiny

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
TOKENS = SPECIALS + [chr(ord("a") + i) for i in range(tiny.VOCABULARY - len(SPECIALS))]


def config(**text: Any) -> Any:
    return transformers.BlipConfig(
        text_config={
            "vocab_size": tiny.VOCABULARY,
            "hidden_size": 24,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "max_position_embeddings": 80,
            "bos_token_id": tiny.DEC,
            "sep_token_id": tiny.SEP,
            "pad_token_id": tiny.PAD,
            "eos_token_id": tiny.SEP,
        }
        | text,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 8,
            "initializer_range": 0.02,  # the default, 1e-10, makes a tower of nothing
        },
        image_text_hidden_size=8,
    )


def write(folder: Path, kind: str, seed: int = 0, scale: float = 12.0, **text: Any) -> Any:
    """Write a model of random weights, of strong opinions, with all that is published beside it."""
    torch.manual_seed(seed)
    model: Any = getattr(transformers, kind)(config(**text)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "norm" not in name.lower():
                weight.mul_(scale)
            elif name.endswith("bias"):
                weight.normal_(std=0.1)
    model.save_pretrained(folder)
    vocabulary = {token: place for place, token in enumerate(TOKENS)}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "BlipImageProcessor", "image_mean": [0.5, 0.4, 0.3],'
        ' "image_std": [0.2, 0.3, 0.4], "resample": 3, "size": {"height": 24, "width": 24}}'
    )
    return model
