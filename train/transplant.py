"""Write a dual encoder's weights as `transformers` reads them, as a VisionTextDualEncoderModel.

That class projects, without a bias, what its towers' poolers give, and these have activations;
ours projects the towers' states, with a bias.  So the poolers pass the states on, and a constant 1
for the bias:

- BERT's pooler ends in tanh, which is linear near 0: it is given `SMALL` times the states, and the
  projection divides by it.  Layer normalisation leaves one of the states to follow from the others,
  and the constant takes its place.
- The vision transformer's pooler may be linear, and takes the projection with its bias.
- timm's EfficientNet has a convolution, a batch norm and SiLU before it pools.  As silu(x) -
  silu(-x) = x, the convolution gives x and -x, and the projection subtracts; of its channels, four
  times as many as x has, another one is constant.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from filters.rule import RecipeError
from recaption.vision import MLP_RATIO
from train.config import EFFICIENTNETS, ModelConfig
from train.dual_encoder import DualEncoder

SMALL = 2.0**-12
"""tanh(x) is x but for x^3 / 3: 2e-6 of a state as large as 10."""
HEAD_RATIO = 4
"""Channels of timm's last convolution, 1,280 in B0, for each that goes into it, 320."""
EPSILON = 1e-3
"""Of the norm after it."""

Weights = dict[str, torch.Tensor]


def transplant(model: DualEncoder) -> tuple[dict[str, Any], Weights]:
    """Return the content of `config.json`, and the weights by their published names.

    Raises:
        RecipeError: No class of `transformers` fits the image tower.
    """
    config = model.config
    vision_config, vision = _efficientnet(model) if _is_efficientnet(config) else _vit(model)
    told = {
        "architectures": ["VisionTextDualEncoderModel"],
        "model_type": "vision-text-dual-encoder",
        "projection_dim": config.embed_width,
        "logit_scale_init_value": model.log_scale.item(),
        "vision_config": vision_config,
        "text_config": {
            "model_type": "bert",
            "vocab_size": config.vocabulary,
            "hidden_size": config.text_width,
            "num_hidden_layers": config.text_layers,
            "num_attention_heads": config.text_heads,
            "intermediate_size": MLP_RATIO * config.text_width,
            "max_position_embeddings": config.max_tokens,
            "layer_norm_eps": config.text_epsilon,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.dropout,
        },
    }
    weights = {f"vision_model.{name}": weight for name, weight in vision.items()}
    weights |= {f"text_model.{name}": weight for name, weight in _bert(model).items()}
    weights["visual_projection.weight"] = _visual(model)
    weights["text_projection.weight"] = _projection(model.text_projection, _last_norm(model), SMALL)
    weights["logit_scale"] = model.log_scale.detach()
    return told, {name: weight.detach().contiguous() for name, weight in weights.items()}


def _is_efficientnet(config: ModelConfig) -> bool:
    return config.image_tower in EFFICIENTNETS


def _bert(model: DualEncoder) -> Weights:
    stack, width = model.text.stack, model.config.text_width
    weights = {
        "embeddings.word_embeddings.weight": stack.words.weight,
        "embeddings.position_embeddings.weight": stack.positions.weight,
        "embeddings.token_type_embeddings.weight": torch.zeros(2, width),
        **_named("embeddings.LayerNorm", stack.norm),
    }
    for place, layer in enumerate(stack.layers):
        name, attention = f"encoder.layer.{place}", layer.attention["encoder"]
        weights |= _queries(f"{name}.attention.self", attention.qkv)
        weights |= _named(f"{name}.attention.output.dense", attention.out.project)
        weights |= _named(f"{name}.attention.output.LayerNorm", attention.out.norm)
        weights |= _named(f"{name}.intermediate.dense", layer.mlp.widen)
        weights |= _named(f"{name}.output.dense", layer.mlp.out.project)
        weights |= _named(f"{name}.output.LayerNorm", layer.mlp.out.norm)
    return weights | _pooler(_last_norm(model), SMALL)


def _last_norm(model: DualEncoder) -> nn.LayerNorm:
    norm: nn.LayerNorm = model.text.stack.layers[-1].mlp.out.norm
    return norm


def _pooler(norm: nn.LayerNorm, factor: float) -> Weights:
    """Return what gives normalised states times a factor, and in the spare's place that factor."""
    spare = _spare(norm)
    weight = factor * torch.eye(len(norm.weight))
    weight[spare] = 0
    return {"pooler.dense.weight": weight, "pooler.dense.bias": factor * _one_at(spare, weight)}


def _projection(layer: nn.Module, norm: nn.LayerNorm, factor: float) -> torch.Tensor:
    """Return what projects as a layer does, of what `_pooler` gives.

    The states are shift + scale * z, and z adds up to 0.
    """
    spare, shift, scale = _spare(norm), norm.bias.double(), norm.weight.double()
    weight, bias = _affine(layer, len(scale))
    share = scale[spare] / scale
    projection = weight - weight[:, spare, None] * share
    projection[:, spare] = weight[:, spare] * (share @ shift) + bias
    return (projection / factor).float()


def _spare(norm: nn.LayerNorm) -> int:
    """Return the state to leave out: that of the smallest scale, as it is divided by others."""
    return int(norm.weight.abs().argmin())


def _affine(layer: nn.Module, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a layer's weight and bias, in float64; of no layer, what changes nothing."""
    if not isinstance(layer, nn.Linear):
        return torch.eye(width).double(), torch.zeros(width).double()
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return layer.weight.double(), bias.double()


def _one_at(place: int, like: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(torch.tensor(place), len(like)).to(like.dtype)


def _vit(model: DualEncoder) -> tuple[dict[str, Any], Weights]:
    config = model.config
    if config.image_tower != "vit" or config.convolutions:
        tower = f"{config.image_tower}{' with convolutions' if config.convolutions else ''}"
        raise RecipeError(
            "model.image_tower must be an EfficientNet, or vit without convolutions, to be read by "
            f"transformers, got {tower}; use the folder's own model.safetensors"
        )
    transformer, width = model.image.transformer, config.vision_width
    weights = {
        "embeddings.cls_token": transformer.start,
        "embeddings.position_embeddings": transformer.positions,
        **_named("embeddings.patch_embeddings.projection", transformer.patches),
        **_named("layernorm", transformer.norm),
        **_pooler(transformer.norm, 1.0),
    }
    for place, layer in enumerate(transformer.layers):
        name = f"encoder.layer.{place}"
        weights |= _named(f"{name}.layernorm_before", layer.attention_norm)
        weights |= _queries(f"{name}.attention.attention", layer.qkv)
        weights |= _named(f"{name}.attention.output.dense", layer.out)
        weights |= _named(f"{name}.layernorm_after", layer.mlp_norm)
        weights |= _named(f"{name}.intermediate.dense", layer.widen)
        weights |= _named(f"{name}.output.dense", layer.narrow)
    told = {
        "model_type": "vit",
        "hidden_size": width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "intermediate_size": MLP_RATIO * width,
        "image_size": config.image_px,
        "patch_size": config.patch_px,
        "layer_norm_eps": config.vision_epsilon,
        "pooler_act": "linear",
    }
    return told, weights


def _efficientnet(model: DualEncoder) -> tuple[dict[str, Any], Weights]:
    """Return timm's tower, whose last convolution and norm give x, -x, and a constant."""
    name = model.config.image_tower.replace("efficientnet-", "tf_efficientnet_")
    weights: Weights = {
        f"timm_model.{key}": value for key, value in model.image.state_dict().items()
    }
    width = model.image.num_features
    channels = HEAD_RATIO * width
    convolution = torch.zeros(channels, width)
    convolution[:width], convolution[width : 2 * width] = torch.eye(width), -torch.eye(width)
    norm = {
        "weight": torch.full((channels,), (1 + EPSILON) ** 0.5),
        "bias": _one_at(2 * width, convolution),
        "running_mean": torch.zeros(channels),
        "running_var": torch.ones(channels),
        "num_batches_tracked": torch.tensor(0),
    }
    weights["timm_model.conv_head.weight"] = convolution[..., None, None]
    weights |= {f"timm_model.bn2.{key}": value for key, value in norm.items()}
    told = {"model_type": "timm_wrapper", "architecture": name, "hidden_size": channels}
    return told | {"do_pooling": True, "num_classes": 0}, weights


def _visual(model: DualEncoder) -> torch.Tensor:
    if not _is_efficientnet(model.config):
        return _projection(model.image_projection, model.image.transformer.norm, 1.0)
    width = model.image.num_features
    weight, bias = _affine(model.image_projection, width)
    projection = torch.zeros(len(weight), HEAD_RATIO * width).double()
    projection[:, :width], projection[:, width : 2 * width] = weight, -weight
    projection[:, 2 * width] = bias / functional.silu(torch.ones(())).double()
    return projection.float()


def _named(name: str, layer: nn.Module) -> Weights:
    return {f"{name}.{key}": value for key, value in layer.state_dict().items()}


def _queries(name: str, layer: nn.Linear) -> Weights:
    """Return one layer of queries, keys and values as three."""
    parts = ("query", "key", "value")
    weights = zip(parts, layer.weight.chunk(3), layer.bias.chunk(3), strict=True)
    return {
        f"{name}.{part}.{key}": value
        for part, weight, bias in weights
        for key, value in (("weight", weight), ("bias", bias))
    }
