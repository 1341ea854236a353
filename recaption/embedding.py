"""Turn images into vectors of length 1 whose cosine says how alike they are.

Any encoder will do: a file of TorchScript or `torch.export` that maps pictures (n, 3, size, size)
to (n, d), or an image model of `transformers`.  `filters.recipe.Embedding` names two made for this.
"""

import functools
import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from filters.recipe import Embedding
from filters.rule import RecipeError
from recaption.extra import check_installed
from recaption.pictures import read_rgb

BATCH = 32
"""Images embedded at once."""

_SUFFIXES = (".pt", ".pt2", ".pth", ".ts", ".torchscript", ".bin", ".safetensors", ".onnx")
"""A path that ends so is a file's, there or not, and no hub id."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PROBES = ((48, 32), (32, 48))

_Forward = Callable[[list[Image.Image]], Any]


@functools.cache
def encoder(config: Embedding) -> Callable[[Sequence[bytes]], NDArray[np.float32]]:
    """Load a recipe's encoder, and try it out.

    Returns:
        A function from the bytes of n decodable images to n rows of length 1; or of length 0, which
        is like nothing, where the model has nothing to say about an image.

    Raises:
        RecipeError: The extra is not installed, the model cannot be loaded, or it does not give a
            vector of finite numbers for each image.
    """
    kind = check_model(config.model)
    forward = _from_transformers(config.model) if kind != "file" else _from_file(config)
    try:
        probed = forward([Image.new("RGB", size, "grey") for size in _PROBES])
    except Exception as error:  # whatever a foreign network raises
        raise _refused(
            config.model, "must embed any number of images of any shape", error
        ) from error
    width = _unit_rows(config.model, probed, len(_PROBES)).shape[1]

    def encode(images: Sequence[bytes]) -> NDArray[np.float32]:
        rows = np.empty((len(images), width), np.float32)
        for first in range(0, len(images), BATCH):
            pictures = [read_rgb(image) for image in images[first : first + BATCH]]
            part = _unit_rows(config.model, forward(pictures), len(pictures))
            rows[first : first + BATCH] = part
        return rows

    return encode


def check_model(model: str) -> str:
    """Check, loading nothing, that a model can be there, and say which kind it is.

    Returns:
        `file`, `folder` or `hub`.
    """
    check_installed("embedding.model")
    path = Path(model)
    if model and path.exists():
        return "folder" if path.is_dir() else "file"
    if not _HUB_ID.fullmatch(model) or model.startswith(".") or path.suffix in _SUFFIXES:
        raise RecipeError(
            "embedding.model must be a file, a folder or a hub id of transformers, got "
            f"{model!r}, which is not there; correct the path"
        )
    return "hub"


def digest(model: str) -> str:
    """Say which model it is, whatever it is called: vectors of two digests are not comparable.

    Returns:
        `sha256:` and the digest of the file, or of a folder's files and their names without those
        that are hidden; for a hub id, `commit:` and the commit that it stands for.
    """
    kind, path = check_model(model), Path(model)
    if kind == "file":
        return f"sha256:{_file_digest(path)}"
    if kind == "folder":
        names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        seen = [name for name in names if not re.search(r"(^|/)\.", name)]
        lines = "".join(f"{_file_digest(path / name)}  {name}\n" for name in seen)
        return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    from transformers import AutoConfig

    try:
        commit = AutoConfig.from_pretrained(model)._commit_hash  # noqa: SLF001  # no other name
    except (OSError, ValueError) as error:
        raise _refused(model, "must be an image model of transformers", error) from None
    return f"commit:{commit}"


def _from_file(config: Embedding) -> _Forward:
    import torch

    network = _load_file(config.model)
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    size = (config.size_px, config.size_px)

    def forward(pictures: list[Image.Image]) -> Any:
        square = [np.asarray(p.resize(size, Image.Resampling.BILINEAR)) for p in pictures]
        pixels = torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return network((pixels - mean) / std)

    return forward


def _load_file(model: str) -> Any:
    import torch

    rule = "must be a file of TorchScript or of torch.export"
    try:
        with zipfile.ZipFile(model) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise _refused(model, rule, error) from None
    exported = names & {"archive_format", "serialized_exported_program.json"}
    if not exported and "constants.pkl" not in names:
        raise RecipeError(
            f"embedding.model {rule}, got {model!r}, which holds no network, only data such as "
            "weights; export the network with them"
        )
    try:
        with warnings.catch_warnings(), Path(model).open("rb") as file:
            warnings.simplefilter("ignore")  # TorchScript is deprecated; its files are all we have
            if exported:
                return torch.export.load(file).module()
            return torch.jit.load(file, map_location="cpu").eval()
    except Exception as error:  # torch raises RuntimeError and much else on damaged files
        raise _refused(model, rule, error) from None


def _from_transformers(model: str) -> _Forward:
    import torch
    from transformers import AutoImageProcessor, AutoModel

    try:
        processor: Any = AutoImageProcessor.from_pretrained(model)
        network, loading = AutoModel.from_pretrained(model, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise _refused(model, "must be an image model of transformers", error) from None
    missing = set(loading["missing_keys"])
    pooler = {name for name in missing if "pooler" in name}
    if missing - pooler:
        raise RecipeError(
            f"embedding.model must hold all its weights, got {model!r} without "
            f"{min(missing - pooler)}; name a checkpoint of the whole model"
        )
    features = getattr(network, "get_image_features", network)

    def forward(pictures: list[Image.Image]) -> Any:
        with torch.inference_mode():
            output = features(**processor(images=pictures, return_tensors="pt"))
        if isinstance(output, torch.Tensor):
            return output
        pooled = None if pooler else getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)  # convolutional networks have it (n, d, 1, 1)
        last = output.last_hidden_state
        return last.mean(1) if last.ndim == 3 else last.mean((2, 3))  # (n, t, d)

    return forward


def _unit_rows(model: str, output: Any, count: int) -> NDArray[np.float32]:
    """Bring a model's output to rows of length 1, if it is what it must be."""
    shape = tuple(getattr(output, "shape", ()))
    if len(shape) != 2 or shape[0] != count or not shape[1]:  # (n, d)
        found = f"an output of shape {shape}" if shape else f"a {type(output).__name__}"
        raise RecipeError(
            f"embedding.model must give one vector per image, (n, d), got {found} for {count} "
            f"images from {model!r}; export it without its other outputs"
        )
    rows = output.detach().double().numpy()
    if not np.isfinite(rows).all():
        raise RecipeError(
            f"embedding.model must give finite numbers, got NaN or infinity from {model!r}; "
            "export it in float32"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0).astype(np.float32)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(model: str, rule: str, error: Exception) -> RecipeError:
    told = (str(error).strip() or type(error).__name__).splitlines()[0]
    return RecipeError(f"embedding.model {rule}, got {model!r}: {told}; correct it")
