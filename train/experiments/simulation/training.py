"""Train two towers of one hidden layer by the spectral contrastive loss, all worlds at once.

The loss of a batch is the sum over its pairs p of  -<f_p, h_p>  and, over the other pairs n,
(<f_n, h_p>^2 + <f_p, h_n>^2) / (2 temperature).  Source: Sun et al., NeurIPS 2025, section 2; the
formula is our reading of the terms that the appendices print.

The temperature only rescales: with weights sqrt(temperature) times as large, loss and gradients
are those of temperature 1.  What counts is the first weights' size beside its root.

Shapes: B batch, D inputs, M neurons, K worlds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from train.experiments.simulation.pairs import Pairs
from train.experiments.simulation.setting import Setting

Batch = tuple[Tensor, Tensor]
"""Images (B, D), the same in all worlds, and texts (K, B, D)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The neurons of both towers, float32."""

    image: Tensor
    """W."""
    text: Tensor
    """V."""

    def clone(self) -> "Weights":
        """Return a copy, to train."""
        return Weights(self.image.clone(), self.text.clone())

    def __getitem__(self, worlds: list[int]) -> "Weights":
        """Return those of some worlds."""
        return Weights(self.image[worlds], self.text[worlds])


def draw_weights(setting: Setting, worlds: int, stream: torch.Generator) -> Weights:
    """Draw the first weights: independent normal numbers, the same in each world."""
    shape = (setting.num_neurons, setting.num_inputs)
    image, text = (
        torch.randn(shape, generator=stream, device=stream.device) * setting.initial_deviation
        for _ in range(2)
    )
    return Weights(image.repeat(worlds, 1, 1), text.repeat(worlds, 1, 1))


def project(inputs: Tensor, weights: Tensor) -> Tensor:
    """Return what neurons see (K, B, M) of inputs (B, D), shared by all worlds, or (K, B, D)."""
    worlds, neurons, size = weights.shape
    cast = weights.to(inputs.dtype)
    if inputs.dim() == 3:
        return torch.bmm(inputs, cast.transpose(1, 2)).float()
    together = inputs @ cast.reshape(worlds * neurons, size).T
    return together.float().view(-1, worlds, neurons).transpose(0, 1)


def descend(weights: Tensor, slopes: Tensor, inputs: Tensor, rate: float) -> None:
    """Take a step against the gradient, slopes times inputs; see `project` for shapes."""
    slopes = slopes.to(inputs.dtype)
    if inputs.dim() == 3:
        gradient = torch.bmm(slopes.transpose(1, 2), inputs)
    else:
        flat = slopes.transpose(0, 1).reshape(len(inputs), -1)
        gradient = (flat.T @ inputs).view_as(weights)
    weights.sub_(gradient.float(), alpha=rate)


@dataclass(frozen=True, slots=True)
class Unit:
    """What a neuron makes of what it sees.

    `relu` is max(u, 0).  `shifted` is max(u - b, 0) - max(-u - b, 0), as in the paper's proofs: b
    is 0 until a neuron is twice as long as at first, then sqrt(log d / d) of its length, which
    grows with it.  The exact schedule of the paper is lost to us.
    """

    kind: str
    first: Tensor
    """The length of each neuron at first."""
    share: float
    """Of its length, that the bias takes."""

    def __getitem__(self, worlds: list[int]) -> "Unit":
        return Unit(self.kind, self.first[worlds], self.share)

    def bias(self, weights: Tensor) -> Tensor:
        """Return b (K, 1, M)."""
        lengths = weights.norm(dim=2)
        grown = lengths > 2 * self.first
        return (self.share * lengths * grown).unsqueeze(1)

    def __call__(self, seen: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the neurons say, and its slope by what they see, both (K, B, M)."""
        if self.kind == "relu":
            return seen.clamp(min=0), (seen > 0).float()
        bias = self.bias(weights)
        inside = torch.maximum(torch.minimum(seen, bias), -bias)
        return seen - inside, (seen.abs() > bias).float()


@dataclass(frozen=True, slots=True)
class Towers:
    """Weights and the units that they belong to."""

    weights: Weights
    image_unit: Unit
    text_unit: Unit

    def images(self, images: Tensor) -> Tensor:
        """Return the embeddings f (K, B, M) of images (B, D) or (K, B, D)."""
        weights = self.weights.image
        return self.image_unit(project(images, weights), weights)[0]

    def texts(self, texts: Tensor) -> Tensor:
        """Return the embeddings h (K, B, M) of texts (B, D) or (K, B, D)."""
        weights = self.weights.text
        return self.text_unit(project(texts, weights), weights)[0]

    def __getitem__(self, worlds: list[int]) -> "Towers":
        return Towers(self.weights[worlds], self.image_unit[worlds], self.text_unit[worlds])

    def at(self, weights: Weights) -> "Towers":
        """Return the towers with other weights."""
        return Towers(weights, self.image_unit, self.text_unit)


def make_towers(setting: Setting, weights: Weights) -> Towers:
    """Return towers that begin with some weights, which training changes in place."""
    share = math.sqrt(math.log(setting.num_features) / setting.num_features)
    image, text = (
        Unit(setting.unit, one.norm(dim=2), share) for one in (weights.image, weights.text)
    )
    return Towers(weights, image, text)


def contrast(images: Tensor, texts: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """Return the loss of each world (K,) and its slopes by both embeddings (K, B, M).

    The sums over all B * B products are taken through the M * M second moments.
    """
    own = (images * texts).sum(dim=2, keepdim=True)
    of_images = images.transpose(1, 2) @ images
    of_texts = texts.transpose(1, 2) @ texts
    others = (of_images * of_texts).sum(dim=(1, 2)) - own.square().sum(dim=(1, 2))
    loss = others / temperature - own.sum(dim=(1, 2))
    scale = 2 / temperature
    by_images = (images @ of_texts - own * texts) * scale - texts
    by_texts = (texts @ of_images - own * images) * scale - images
    return loss, by_images, by_texts


def shuffled(pairs: Pairs, size: int, stream: torch.Generator) -> Iterator[Batch]:
    """Yield batches of pairs without end, in a new order each time all have been seen."""
    num = len(pairs.images)
    while True:
        order = torch.randperm(num, generator=stream, device=stream.device)
        for some in order[: num - num % size].split(size):
            yield pairs.images[some], pairs.texts[:, some]


def train(
    towers: Towers,
    batches: Iterator[Batch],
    setting: Setting,
    measure: Callable[[int, Towers], None],
) -> None:
    """Train towers in place by plain gradient descent; `measure` is called as the setting says."""
    image, text = towers.weights.image, towers.weights.text
    for step in range(1, setting.steps + 1):
        images, texts = next(batches)
        f, image_slope = towers.image_unit(project(images, image), image)
        h, text_slope = towers.text_unit(project(texts, text), text)
        _, by_f, by_h = contrast(f, h, setting.temperature)
        descend(image, by_f * image_slope, images, setting.learning_rate)
        descend(text, by_h * text_slope, texts, setting.learning_rate)
        if step % setting.measured_every == 0:
            measure(step, towers)
