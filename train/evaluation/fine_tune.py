"""Train the image tower further, with a linear head on it, and measure on the test images."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from numpy.typing import NDArray
from torch import nn

from filters.rule import RecipeError
from train.evaluation.encoder import Encoder, Floats, Tunable
from train.evaluation.images import Place, embed
from train.evaluation.labelled import Labelled
from train.evaluation.ranks import found_in
from train.evaluation.results import Result
from train.evaluation.splits import Splits
from train.evaluation.zero_shot import accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How the tower is trained.  Source: ALIGN (arXiv:2102.05918), section 5.3, fine-grained tasks.

    Raises:
        RecipeError: A number is not above 0.
    """

    steps: int = 20_000
    """Of the head alone, and as many again of all layers."""
    batch: int = 256
    head_rate: float = 1e-2
    """Learning rate of the head alone; it falls to 0 along a cosine, as the other one does."""
    rate: float = 1e-3
    """Of all layers."""
    momentum: float = 0.9
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise RecipeError(f"{name} of fine-tuning must be above 0, got {value}; raise it")


class _Classifier(nn.Module):
    """A tower and a linear layer on what it returns."""

    def __init__(self, tower: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.tower(images).float())
        return logits


def fine_tune(encoder: Encoder, data: Splits, tuning: Tuning | None = None) -> Result:
    """Train the head, then all layers with frozen statistics of batch norms, and measure.

    Images are mirrored at random, and decoded as for evaluation.  Validation images are learnt from
    too, as nothing is chosen by them.

    Raises:
        RecipeError: The encoder shows no tower to train.
    """
    tuning = tuning or Tuning()
    if not isinstance(encoder, Tunable):
        raise RecipeError(
            f"fine-tuning must have an encoder with a tower to train, got {encoder.model}; leave "
            "fine-tune out"
        )
    parts = [_readable(encoder, part) for part in (data.train, data.validation, data.test)]
    train = _Images(
        encoder,
        [*parts[0].images, *parts[1].images],
        np.concatenate([parts[0].labels, parts[1].labels]),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = encoder.image_tower()
        model = _Classifier(tower, encoder.num_features, len(data.test.classes))
        model.to(next(tower.parameters()).device)
        _train(model, train, tuning, model.head.parameters(), tuning.head_rate)
        _train(model, train, tuning, model.parameters(), tuning.rate)
    test = _Images(encoder, [*parts[2].images], parts[2].labels)
    found = found_in(_logits(model, test, tuning.batch), test.labels, (1, 5))
    metrics, intervals = accuracy(found, test.labels, len(data.test.classes))
    return Result(
        dataset=data.train.name,
        task="fine_tuning",
        metrics=metrics,
        intervals=intervals,
        counts={
            "train": len(train.labels),
            "images": len(test.labels),
            "classes": len(data.test.classes),
        },
        faults={
            name: sum(part.faults.get(name, 0) for part in parts)
            for name in sorted({name for part in parts for name in part.faults})
        },
        settings=asdict(tuning),
    )


def _readable(encoder: Tunable, data: Labelled) -> Labelled:
    """Return the images that can be decoded, by decoding all once."""

    def decode(images: Any) -> Floats:
        return np.zeros((len(encoder.pixels(images)), 1))

    found = embed(decode, data.images)
    kept = data.some(found.at)
    return Labelled(kept.name, kept.classes, kept.images, kept.labels, data.faults | found.faults)


@dataclass(frozen=True, slots=True)
class _Images:
    """Images that can be decoded, and their labels."""

    encoder: Tunable
    sources: list[Any]
    labels: NDArray[np.int64]

    def pixels(self, at: NDArray[np.int64]) -> torch.Tensor:
        read = [self.sources[i] for i in at]
        return self.encoder.pixels([one.read() if isinstance(one, Place) else one for one in read])

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches without end, each epoch in another order, half of the images mirrored."""
        generator = np.random.default_rng(0)
        size = min(size, len(self.labels))
        while True:
            order = generator.permutation(len(self.labels))
            for first in range(0, len(order) - size + 1, size):
                some = order[first : first + size]
                pixels = self.pixels(some)
                mirrored = torch.from_numpy(generator.random(size) < 0.5)
                pixels[mirrored] = pixels[mirrored].flip(-1)
                yield pixels, torch.from_numpy(self.labels[some])


def _train(model: _Classifier, train: _Images, tuning: Tuning, weights: Any, rate: float) -> None:
    """Train some of the weights by SGD; batch norms keep their statistics."""
    model.requires_grad_(False)
    weights = [weight.requires_grad_(True) for weight in weights]
    optimizer = torch.optim.SGD(
        weights, lr=rate, momentum=tuning.momentum, weight_decay=tuning.weight_decay
    )
    _set_mode(model, learns=len(weights) > len(list(model.head.parameters())))
    device = model.head.weight.device
    for step, (pixels, labels) in zip(
        range(tuning.steps), train.batches(tuning.batch), strict=False
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / tuning.steps)) / 2
        loss = F.cross_entropy(model(pixels.to(device)), labels.to(device))
        if not torch.isfinite(loss):
            raise RecipeError(
                f"the loss of fine-tuning must be finite, got {loss.item()} at step {step}; lower "
                "rate"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _set_mode(model: _Classifier, *, learns: bool) -> None:
    model.train(learns)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # has no other name
            module.eval()


def _logits(model: _Classifier, images: _Images, batch: int) -> Floats:
    model.eval()
    device, every = model.head.weight.device, np.arange(len(images.labels))
    with torch.inference_mode():
        parts = [
            model(images.pixels(every[at : at + batch]).to(device)).cpu().numpy()
            for at in range(0, len(every), batch)
        ]
    return np.concatenate(parts)
