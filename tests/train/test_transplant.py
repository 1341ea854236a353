"""What `transformers` loads gives our embeddings, whatever the towers and their projections."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("timm", reason="needs the extra train")

import json  # noqa: E402

from safetensors.torch import save_file  # noqa: E402

from filters.rule import RecipeError  # noqa: E402
from train.config import ModelConfig  # noqa: E402
from train.dual_encoder import DualEncoder  # noqa: E402
from train.transplant import transplant  # noqa: E402

TEXT = {"text_width": 24, "text_layers": 2, "text_heads": 3, "max_tokens": 8, "vocabulary": 40}
VIT = {
    "image_tower": "vit",
    "image_px": 16,
    "patch_px": 8,
    "vision_width": 16,
    "vision_layers": 2,
    "vision_heads": 2,
    "drop_path": 0.0,
}
B0 = {"image_tower": "efficientnet-b0", "image_px": 33}


def strong(config: ModelConfig) -> DualEncoder:
    """Return a model none of whose weights is what it is at the start."""
    torch.manual_seed(0)
    model = DualEncoder(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim:
                weight.add_(torch.randn_like(weight) * (0.2 if "image." not in name else 0.02))
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(1 + torch.rand_like(buffer))
    return model


@pytest.mark.parametrize(
    "sizes",
    [
        VIT | {"embed_width": 8},
        VIT | {"embed_width": 16},
        VIT | {"embed_width": 40, "projection_bias": False},
        VIT | {"embed_width": 40},
        B0 | {"embed_width": 320},
        B0 | {"embed_width": 12},
        B0 | {"embed_width": 12, "projection_bias": False},
    ],
)
def test_transformers_gives_the_same_embeddings(sizes: dict[str, Any], tmp_path: Path) -> None:
    config = ModelConfig(**TEXT, **sizes)
    model = strong(config)
    pixels = torch.randint(0, 256, (3, 3, config.image_px, config.image_px), dtype=torch.uint8)
    tokens, mask = torch.randint(7, 40, (3, 8)), torch.ones(3, 8, dtype=torch.bool)
    mask[1, 5:] = False

    told, weights = transplant(model)
    (tmp_path / "config.json").write_text(json.dumps(told))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    theirs, report = transformers.VisionTextDualEncoderModel.from_pretrained(
        tmp_path, output_loading_info=True
    )

    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    mean, std = (torch.tensor(c)[:, None, None] for c in (config.colour_mean, config.colour_std))
    with torch.no_grad():
        answer = theirs.eval()(
            input_ids=tokens, attention_mask=mask, pixel_values=(pixels / 255 - mean) / std
        )
        image, text = model.encode_image(pixels), model.encode_text(tokens, mask)
    torch.testing.assert_close(answer.image_embeds, image, rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.text_embeds, text, rtol=0, atol=1e-5)
    assert theirs.logit_scale == model.log_scale


def test_a_tower_that_no_class_fits_is_named() -> None:
    config = ModelConfig(**TEXT, **VIT, convolutions=True)

    with pytest.raises(RecipeError, match=r"to be read by transformers, got vit with convolutions"):
        transplant(DualEncoder(config))
