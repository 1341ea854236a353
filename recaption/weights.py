"""Keep models in folders, and import published ones.

A folder has `config.json` (sizes, and how images are prepared), `model.safetensors` and
`vocab.txt`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from filters.rule import RecipeError
from recaption.blip import Blip
from recaption.config import BlipConfig
from recaption.files import replacing
from recaption.pixels import CLIP_MEAN, CLIP_STD
from recaption.stores import StorePath, to_path

FORMAT = 1
CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"
_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A model, and what it needs to be fed."""

    model: Blip
    vocabulary: Sequence[str]
    """Tokens by id, specials included."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    """Of pixels in [0, 1], for red, green and blue."""
    origin: str = ""
    """What it was imported from, with the commit of a hub id."""
    digest: str = ""
    """SHA-256, in hex, of the weights' file."""

    @property
    def preprocess(self) -> dict[str, Any]:
        """How images become pixels, in plain values."""
        side = self.model.config.image_px
        mean, std = list(self.mean), list(self.std)
        return {"image_px": side, "resample": "bicubic", "mean": mean, "std": std}


def save_model(folder: Path, package: Package) -> str:
    """Write a model folder; its config comes last, so that what has one is whole.

    Returns:
        The digest of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"altmill": "blip", "format": FORMAT, "model": asdict(package.model.config)}
    config |= {"preprocess": package.preprocess, "origin": package.origin}
    weights = serialise(package.model)
    (folder / CONFIG).unlink(missing_ok=True)
    contents = {
        VOCABULARY: "".join(f"{token}\n" for token in package.vocabulary).encode(),
        WEIGHTS: weights,
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    for name, content in contents.items():
        with replacing(folder / name) as part:
            part.write_bytes(content)
    return hashlib.sha256(weights).hexdigest()


def open_model(source: str) -> Package:
    """Load a model folder, or import a published BLIP: a folder of `transformers`, or a hub id.

    The model is on the CPU, in float32, and ready to be asked.

    Raises:
        RecipeError: There is no such model, or its weights are not what its config says.
    """
    folder = to_path(source)
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(source):
            raise refused(source, "no such folder, and no hub id", "correct the path")
        return _published(source)
    config = _read_config(folder)
    if "altmill" in config:
        return _load(folder, config)
    if isinstance(folder, StorePath):
        raise refused(source, f"{CONFIG} of another program", "copy it to this machine")
    if config.get("model_type") == "blip":
        return _published(source)
    found = config.get("model_type", "neither altmill nor model_type")
    raise refused(source, f"{CONFIG} says {found}", "name a BLIP model")


def _published(source: str) -> Package:
    from recaption.published import import_published

    return import_published(source)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise refused(str(folder), f"no readable {CONFIG}: {error}", "name its folder") from None
    return config if isinstance(config, dict) else {}


def _load(folder: Path, config: Mapping[str, Any]) -> Package:
    if config.get("format") != FORMAT:
        told = f"format {config.get('format')} of {CONFIG}"
        raise refused(str(folder), told, f"this altmill reads format {FORMAT}")
    path = folder / WEIGHTS
    try:
        model = Blip(BlipConfig(**config["model"])).eval()
        prepared = config["preprocess"]
        mean, std = tuple(prepared["mean"]), tuple(prepared["std"])
        vocabulary = (folder / VOCABULARY).read_text("utf-8").splitlines()
        weights = load_file(path)
    except (KeyError, TypeError) as error:
        raise refused(str(folder), f"a {CONFIG} with {error}", "write it again") from None
    except SafetensorError as error:
        told = f"{WEIGHTS} that is cut or of another format ({error})"
        raise refused(str(folder), told, "copy or write it again") from None
    except (OSError, ValueError) as error:
        raise refused(str(folder), str(error), "copy or write it again") from None
    fill(model, weights, str(folder))
    if len(vocabulary) != model.config.vocabulary:
        told = f"{len(vocabulary):,} tokens for {model.config.vocabulary:,} of {CONFIG}"
        raise refused(str(folder), told, f"give it the {VOCABULARY} it was trained with")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Package(
        model=model,
        vocabulary=vocabulary,
        mean=mean,
        std=std,
        origin=config.get("origin", ""),
        digest=digest,
    )


def fill(model: Blip, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Give a model its weights, all of them and no others."""
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    advice = f"the weights must be those of {CONFIG}"
    for name in sorted(shapes.keys() ^ weights.keys()):
        told = f"no weight {name}" if name in shapes else f"an unknown weight {name}"
        raise refused(source, told, advice)
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            told = f"{name} of shape {tuple(weights[name].shape)} for {shape}"
            raise refused(source, told, advice)
        if not weights[name].isfinite().all():
            raise refused(source, f"NaN or infinity in {name}", "train or copy it again")
    model.load_state_dict(weights)


def serialise(model: Blip) -> bytes:
    """Return a model's weights as their file has them."""
    state = {name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}
    return save(state, {"format": "pt"})


def refused(source: str, told: str, advice: str) -> RecipeError:
    """Return the error of a model that cannot be used: what was found where, and what to do."""
    return RecipeError(
        f"A model must be whole and of BLIP's kind, got {told} in {source}; {advice}"
    )
