"""Import published BLIPs, as `transformers` writes them.

`BlipForConditionalGeneration` becomes a model with a decoder only, `BlipForImageTextRetrieval` one
with an encoder only: published captioner and filter are apart, as BLIP's are after their
fine-tuning (arXiv:2201.12086, section 3.2).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from filters.rule import RecipeError
from recaption.blip import Blip
from recaption.config import BlipConfig
from recaption.pixels import CLIP_MEAN, CLIP_STD
from recaption.weights import Package, fill, refused, serialise

IMPORTED_TOKENS = 64
"""Positions kept of a published model, which has 512 and was trained on at most 40."""

_BICUBIC = 3
_PARTS = {
    "BlipForConditionalGeneration": ("decoder", "text_decoder.bert."),
    "BlipForImageTextRetrieval": ("encoder", "text_encoder."),
}
"""Of each class, its part of the text stack, and what names of its weights begin with."""

_RENAMED = (
    (r"^vision_model\.embeddings\.class_embedding", "vision.start"),
    (r"^vision_model\.embeddings\.position_embedding", "vision.positions"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "vision.patches."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.", r"vision.layers.\1."),
    (r"^vision_model\.post_layernorm\.", "vision.norm."),
    (r"\.self_attn\.qkv\.", ".qkv."),
    (r"\.self_attn\.projection\.", ".out."),
    (r"\.layer_norm1\.", ".attention_norm."),
    (r"\.layer_norm2\.", ".mlp_norm."),
    (r"\.mlp\.fc1\.", ".widen."),
    (r"\.mlp\.fc2\.", ".narrow."),
    (r"^text\.embeddings\.word_embeddings\.", "text.words."),
    (r"^text\.embeddings\.position_embeddings\.", "text.positions."),
    (r"^text\.embeddings\.LayerNorm\.", "text.norm."),
    (r"^text\.encoder\.layer\.", "text.layers."),
    (r"\.attention\.self\.query\.(\w+)$", r".attention.PART.qkv.\1#0"),
    (r"\.attention\.self\.key\.(\w+)$", r".attention.PART.qkv.\1#1"),
    (r"\.attention\.self\.value\.(\w+)$", r".attention.PART.qkv.\1#2"),
    (r"\.attention\.output\.", ".attention.PART.out."),
    (r"\.crossattention\.self\.query\.", ".cross.query."),
    (r"\.crossattention\.self\.key\.(\w+)$", r".cross.key_value.\1#0"),
    (r"\.crossattention\.self\.value\.(\w+)$", r".cross.key_value.\1#1"),
    (r"\.crossattention\.output\.", ".cross.out."),
    (r"\.intermediate\.dense\.", ".mlp.widen."),
    (r"(\.layers\.\d+)\.output\.", r"\1.mlp.out."),
    (r"\.out\.dense\.", ".out.project."),
    (r"\.out\.LayerNorm\.", ".out.norm."),
    (r"^text_decoder\.cls\.predictions\.transform\.dense\.", "word_head.project."),
    (r"^text_decoder\.cls\.predictions\.transform\.LayerNorm\.", "word_head.norm."),
    (r"^text_decoder\.cls\.predictions\.bias", "word_head.bias"),
    (r"^vision_proj\.", "image_projection."),
    (r"^text_proj\.", "text_projection."),
    (r"^itm_head\.", "match_head."),
)
_TIED = "text_decoder.cls.predictions.decoder."
"""The word embeddings, and the bias, once more."""


def import_published(source: str) -> Package:
    """Import a published BLIP: a folder of `transformers`, or a hub id.

    Raises:
        RecipeError: There is none, or it is of another kind.
    """
    import transformers

    local = {"local_files_only": Path(source).is_dir()}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **local)
        kind = _check_kind(source, config)
        network, told = getattr(transformers, kind).from_pretrained(
            source, output_loading_info=True, dtype=torch.float32, **local
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **local)
    except RecipeError:
        raise
    except Exception as error:  # whatever reading strange files, or no network, raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = "name a folder that is there, or a hub id that was downloaded or can be"
        raise refused(source, reason, advice) from None
    for name in sorted(told["missing_keys"]):
        raise refused(source, f"no weight {name}", "name a checkpoint of the whole model")
    part, _ = _PARTS[kind]
    sizes = _sizes(config, part)
    model = Blip(sizes).eval()
    weights = dict(_renamed(network.state_dict(), kind))
    weights["text.positions.weight"] = weights["text.positions.weight"][: sizes.max_tokens]
    if sizes.encoder:
        weights["temperature"] = model.temperature.detach()  # nobody publishes it
    fill(model, weights, source)
    mean, std = _pixels(source, local)
    commit = getattr(config, "_commit_hash", None)
    return Package(
        model=model,
        vocabulary=_vocabulary(tokenizer, config.text_config, source),
        mean=mean,
        std=std,
        origin=f"{source}@{commit}" if commit else source,
        digest=hashlib.sha256(serialise(model)).hexdigest(),
    )


def _check_kind(source: str, config: Any) -> str:
    """Return the class of a published model, if it is one of those that can be imported."""
    kind = next(iter(config.architectures or ()), config.model_type)
    if kind not in _PARTS:
        raise refused(source, kind, f"only {' and '.join(_PARTS)} can be imported")
    text, vision = config.text_config, config.vision_config
    known = {
        "text_config.hidden_act": (text.hidden_act, "gelu"),
        "vision_config.hidden_act": (vision.hidden_act, "gelu"),
        "text_config.intermediate_size": (text.intermediate_size, 4 * text.hidden_size),
        "vision_config.intermediate_size": (vision.intermediate_size, 4 * vision.hidden_size),
    }
    for name, (found, wanted) in known.items():
        if found != wanted:
            raise refused(source, f"{name} {found}", f"only {wanted} can be imported")
    return kind


def _sizes(config: Any, part: str) -> BlipConfig:
    text, vision = config.text_config, config.vision_config
    return BlipConfig(
        image_px=vision.image_size,
        patch_px=vision.patch_size,
        vision_width=vision.hidden_size,
        vision_layers=vision.num_hidden_layers,
        vision_heads=vision.num_attention_heads,
        text_width=text.hidden_size,
        text_layers=text.num_hidden_layers,
        text_heads=text.num_attention_heads,
        embed_width=config.image_text_hidden_size,
        max_tokens=min(text.max_position_embeddings, IMPORTED_TOKENS),
        vocabulary=text.vocab_size,
        vision_epsilon=vision.layer_norm_eps,
        text_epsilon=text.layer_norm_eps,
        encoder=part == "encoder",
        decoder=part == "decoder",
    )


def _renamed(weights: Mapping[str, torch.Tensor], kind: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Give weights our names, and join queries, keys and values."""
    part, prefix = _PARTS[kind]
    pieces: dict[str, list[tuple[str, torch.Tensor]]] = {}
    for theirs, weight in weights.items():
        if theirs.startswith(_TIED):
            continue
        name = "text." + theirs.removeprefix(prefix) if theirs.startswith(prefix) else theirs
        for pattern, ours in _RENAMED:
            name = re.sub(pattern, ours, name)
        name, _, place = name.replace(".PART.", f".{part}.").partition("#")
        pieces.setdefault(name, []).append((place, weight))
    for name, found in pieces.items():
        yield name, torch.cat([weight for _, weight in sorted(found, key=lambda one: one[0])])


def _pixels(source: str, local: Mapping[str, bool]) -> Any:
    """Return the mean and the standard deviation that pixels are normalised with."""
    from transformers import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(source, **local)
    except (OSError, ValueError):  # it has none
        return CLIP_MEAN, CLIP_STD
    if processor.get("resample", _BICUBIC) != _BICUBIC:
        told = f"images resampled by {processor['resample']}"
        raise refused(source, told, "only bicubic can be imported")
    return tuple(processor.get("image_mean", CLIP_MEAN)), tuple(
        processor.get("image_std", CLIP_STD)
    )


def _vocabulary(tokenizer: Any, config: Any, source: str) -> list[str]:
    """Return tokens by id, with the specials that BLIP adds to BERT's and publishes by id only."""
    tokens = {place: token for token, place in tokenizer.get_vocab().items()}
    places = (config.bos_token_id, config.bos_token_id + 1)
    for special, place in zip(("[DEC]", "[ENC]"), places, strict=True):
        tokens.setdefault(place, special)
    missing = sorted(set(range(config.vocab_size)) - tokens.keys())
    if missing or len(tokens) > config.vocab_size:
        told = f"{len(tokens):,} tokens for {config.vocab_size:,} embeddings"
        raise refused(source, told, "its tokenizer must be its own")
    return [tokens[place] for place in range(config.vocab_size)]
