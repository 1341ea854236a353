"""Open what a run has learnt: its model, and all that it must be fed by."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from filters.rule import RecipeError
from recaption.wordpiece import Tokenizer
from train.checkpoints import Checkpoints, read_checkpoint
from train.dual_encoder import DualEncoder
from train.folder import CHECKPOINTS
from train.images import read_image
from train.settings import Settings, settings_of

BATCH = 64
"""Images or texts at once."""

Floats = NDArray[np.float32]


def open_run(folder: Path, which: str = "best", device: str = "") -> "Opened":
    """Load the model of a run.

    Args:
        folder: The run's.
        which: A checkpoint: `best`, or where none is, `last`; `last`; or a step.
        device: As torch names it; empty: a GPU where there is one.

    Raises:
        RecipeError: There is no such checkpoint, or the vocabulary beside it is another one.
    """
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    if which == "best" and not checkpoints.best():
        which = "last"
    path = checkpoints.path(checkpoints.find(which))
    stored = read_checkpoint(path)
    settings = settings_of({"name": stored["name"], **stored["settings"]}, str(path))
    tokenizer = Tokenizer.load(folder, settings.model.max_tokens)
    if tokenizer.digest != stored["facts"]["vocabulary_sha256"]:
        raise RecipeError(
            f"{folder} must hold the vocabulary that its model learnt by, got another vocab.txt; "
            "bring the run's own back"
        )
    config = replace(settings.model, vocabulary=len(tokenizer.vocabulary), compile=False)
    network = DualEncoder(config)
    network.load_state_dict(stored["model"])
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Opened(settings, network.to(place).eval(), tokenizer, folder, stored["step"])


@dataclass(frozen=True, slots=True)
class Opened:
    """A model, as an evaluation asks it; an `evaluation.encoder.Encoder`."""

    settings: Settings
    network: DualEncoder
    """Ready to be asked, on its device."""
    tokenizer: Tokenizer
    folder: Path
    """Of the run."""
    step: int

    @property
    def model(self) -> str:
        """The towers' name."""
        return self.settings.model.image_tower

    @property
    def pretrained(self) -> str:
        """Which weights."""
        return f"{self.folder}, step {self.step}"

    def pixels(self, images: Sequence[bytes]) -> torch.Tensor:
        """Decode images as for evaluation: uint8 (n, 3, px, px), their centres.

        Raises:
            BadSample: An image cannot be decoded.
        """
        loader, px = self.settings.loader.images, self.settings.model.image_px
        with ThreadPoolExecutor() as threads:
            squares = list(threads.map(lambda image: read_image(image, loader, px), images))
        return torch.from_numpy(np.stack(squares))

    def encode_images(self, images: Sequence[bytes]) -> Floats:
        """Return embeddings (n, d) of length 1."""
        return self._each(
            images, lambda some: self.network.encode_image(self._sent(self.pixels(some)))
        )

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Return embeddings (n, d) of length 1."""

        def encode(some: Sequence[str]) -> torch.Tensor:
            ids, mask = self.tokenizer.encode(some)
            tokens, seen = torch.from_numpy(ids), torch.from_numpy(mask).bool()
            return self.network.encode_text(self._sent(tokens), self._sent(seen))

        return self._each(texts, encode)

    def projections(self) -> dict[str, Floats]:
        """Return the weights of the layers that end the towers, by tower, where there are any."""
        layers = {"image": self.network.image_projection, "text": self.network.text_projection}
        return {
            tower: layer.weight.detach().float().cpu().numpy()
            for tower, layer in layers.items()
            if isinstance(layer, nn.Linear)
        }

    @property
    def num_features(self) -> int:
        """Width of what the image tower ends in."""
        with torch.inference_mode():
            px = self.settings.model.image_px
            black = self._sent(torch.zeros(1, 3, px, px, dtype=torch.uint8))
            return self.network.image_states(black).shape[1]

    def image_tower(self) -> nn.Module:
        """Return a copy of the image tower: of `pixels`, on its device, it makes features."""
        return _ImageTower(self.network)

    def image_features(self, images: Sequence[bytes]) -> Floats:
        """Return what the image tower ends in, (n, width)."""
        return self._each(
            images, lambda some: self.network.image_states(self._sent(self.pixels(some)))
        )

    def _each(self, items: Sequence[Any], encode: Callable[[Any], torch.Tensor]) -> Floats:
        with torch.inference_mode():
            parts = [
                encode(items[at : at + BATCH]).float().cpu().numpy()
                for at in range(0, len(items), BATCH)
            ]
        return np.concatenate(parts)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.network.log_scale.device)


class _ImageTower(nn.Module):
    """A copy of a dual encoder's image tower, with how it scales colours, and nothing else."""

    def __init__(self, network: DualEncoder) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for other in ("text", "text_projection", "image_projection"):
            setattr(self.network, other, nn.Identity())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network.image_states(pixels)
