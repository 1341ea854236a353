"""Settings of model and optimizer: what is refused, and in which words."""

from typing import Any

import pytest

from filters.parsing import build
from filters.rule import RecipeError
from train.config import ModelConfig, OptimizerConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_tower": "efficientnet-b9"}, "model.image_tower must be one of efficientnet-b0, "),
        ({"image_tower": "timm:"}, "model.image_tower must be one of"),
        ({"image_px": 0}, "model.image_px must be 1 or more, got 0; correct it"),
        ({"vocabulary": 0}, "model.vocabulary must be 1 or more, got 0"),
        ({"colour_mean": [0.5]}, r"model.colour_mean must be three numbers, got \(0.5,\)"),
        ({"colour_std": [0.5, 0.0, 0.5]}, "model.colour_std must be above 0"),
        ({"drop_path": 1.0}, r"model.drop_path must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"model.dropout must be in \[0, 1\), got -0.1"),
        ({"temperature": 0.001}, r"model.temperature must be in \[0.01, 1.0\], got 0.001"),
        ({"temperature": 1.5}, "model.temperature must be in"),
        ({"precision": "fp16"}, "model.precision must be one of bf16, fp32, got 'fp16'"),
        ({"text_heads": 7}, "model.text_width must be a multiple of text_heads, got 768"),
        ({"image_tower": "vit"}, "model.drop_path must be 0 with image_tower vit, got 0.2"),
        ({"image_tower": "vit", "drop_path": 0.0}, "model.image_px must be a multiple of 16"),
        (
            {
                "image_tower": "vit",
                "drop_path": 0.0,
                "image_px": 336,
                "patch_px": 14,
                "convolutions": True,
            },
            "model.patch_px must be a power of 2 with convolutions, got 14",
        ),
        ({"depth": 3}, "model.depth must be a known key"),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_a_sentence(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        build(ModelConfig, {"vocabulary": 100} | changes, "model", "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sgd"}, "optimizer.name must be one of lamb, adamw, got 'sgd'"),
        ({"learning_rate": -1.0}, "optimizer.learning_rate must be above 0, got -1.0; correct it"),
        ({"warmup_steps": -1}, "optimizer.warmup_steps must be 0 or more, got -1"),
        ({"decay": "steps"}, "optimizer.decay must be one of cosine, linear, none, got 'steps'"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay must be 0 or more, got -0.1"),
        ({"beta1": 1.0}, r"optimizer.beta1 must be in \[0, 1\), got 1.0"),
        ({"beta2": -0.5}, r"optimizer.beta2 must be in \[0, 1\), got -0.5"),
        ({"epsilon": 0.0}, "optimizer.epsilon must be above 0, got 0.0"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused_in_a_sentence(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        build(OptimizerConfig, changes, "optimizer", "here")


@pytest.mark.parametrize("tower", ["efficientnet-b0", "efficientnet-l2", "timm:resnet50"])
def test_towers_are_chosen_by_name(tower: str) -> None:
    made = build(ModelConfig, {"vocabulary": 100, "image_tower": tower}, "model", "here")

    assert made.image_tower == tower
