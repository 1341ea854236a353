"""Write a run's model for others: our own form, that of `transformers`, and a card.

OUT/config.json, model.safetensors, vocab.txt     all of it, by our own names
OUT/transformers/                                 a VisionTextDualEncoderModel with its processor
OUT/README.md                                     the card: what it is, what it learnt from and by
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from filters.rule import RecipeError
from recaption.files import read_json, replacing, write_json
from recaption.wordpiece import SPECIALS
from train.card import card
from train.folder import EVALUATION, RUN
from train.opening import Opened
from train.transplant import Weights, transplant

FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
FOREIGN = "transformers"

_RESAMPLING = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""


def export(opened: Opened, out: Path) -> Iterator[str]:
    """Write a model, and yield a line for each thing that was written.

    Args:
        opened: The model, on the CPU.
        out: A folder.

    Raises:
        RecipeError: `out` holds something else.
    """
    if (out / CONFIG).exists() and "altmill" not in read_json(out / CONFIG):
        raise RecipeError(f"{out} must be new or hold an export, got another model; name another")
    network = opened.network
    weights = _own(opened, out)
    yield f"{out}: {sum(one.numel() for one in network.parameters()):,} parameters"
    foreign = ""
    try:
        _foreign(opened, out / FOREIGN)
        yield f"{out / FOREIGN}: VisionTextDualEncoderModel.from_pretrained reads it"
    except RecipeError as error:
        foreign = str(error)
        yield f"no form for transformers: {foreign}"
    evaluated = sorted((opened.folder / EVALUATION).glob("*.json"))
    text = card(
        read_json(opened.folder / RUN),
        [read_json(path) for path in evaluated],
        opened.step,
        weights,
        foreign,
    )
    with replacing(out / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    yield f"{out / 'README.md'}: its card"


def _own(opened: Opened, out: Path) -> str:
    """Write our own form, its config last, and return the digest of the weights."""
    state = {name: one.contiguous() for name, one in opened.network.state_dict().items()}
    digest = _write_weights(out / WEIGHTS, state)
    opened.tokenizer.save(out)
    config = {
        "altmill": "dual-encoder",
        "format": FORMAT,
        "model": asdict(opened.network.config),
        "images": asdict(opened.settings.loader.images),
        "vocabulary_sha256": opened.tokenizer.digest,
        "weights_sha256": digest,
    }
    write_json(out / CONFIG, config)
    return digest


def _foreign(opened: Opened, out: Path) -> None:
    config, weights = transplant(opened.network)
    _write_weights(out / WEIGHTS, weights)
    _write_processor(opened, out)
    write_json(out / CONFIG, config)


def _write_processor(opened: Opened, out: Path) -> None:
    """Write what prepares captions and images, as its classes write it."""
    model, images = opened.settings.model, opened.settings.loader.images
    side = images.resize_px
    prepared = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side} if images.keep_aspect else {"height": side, "width": side},
        "resample": _RESAMPLING[images.filter],
        "do_center_crop": True,
        "crop_size": {"height": model.image_px, "width": model.image_px},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.colour_mean),
        "image_std": list(model.colour_std),
        "do_convert_rgb": True,
    }
    write_json(out / "preprocessor_config.json", prepared)
    write_json(out / "processor_config.json", {"processor_class": "VisionTextDualEncoderProcessor"})
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    told: dict[str, Any] = dict(zip(names, SPECIALS, strict=False))
    told |= {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    write_json(out / "tokenizer_config.json", told | {"model_max_length": model.max_tokens})
    opened.tokenizer.save(out)


def _write_weights(path: Path, weights: Weights) -> str:
    content = save(weights, {"format": "pt"})
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
