"""Measure what neurons stand for, and what their embeddings are good for.

Shapes: D inputs, F features, M neurons, N samples, K worlds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from train.evaluation.measures import silhouette
from train.experiments.simulation.pairs import Pairs, World, draw_pairs
from train.experiments.simulation.setting import Setting
from train.experiments.simulation.training import Towers, contrast
from train.experiments.simulation.zero_shot import TASKS, Task, draw_task

PURE = 0.5
"""Of a neuron's length, that must lie along its largest feature.  Source: section 5.1."""
BINS = 20
"""Of the histogram of shares."""


def shares_of(weights: Tensor, dictionary: Tensor) -> Tensor:
    """Return |<w_i, M_j>| / |w_i| (K, M, F): the share of a neuron that lies along a feature."""
    lengths = weights.norm(dim=2, keepdim=True).clamp_min(1e-12)
    return (weights @ dictionary).abs() / lengths


def purified(shares: Tensor) -> Tensor:
    """Count the features (K,) that are the largest of a neuron, with a share above one half."""
    largest, features = shares.max(dim=2)
    pure = torch.zeros(len(shares), shares.shape[2], device=shares.device)
    return pure.scatter_add_(1, features, (largest > PURE).float()).clamp(max=1).sum(dim=1)


def magnitude(shares: Tensor) -> Tensor:
    """Return the mean, over features, of the largest share that any neuron has (K,)."""
    return shares.max(dim=1).values.mean(dim=1)


def histogram(shares: Tensor) -> NDArray[np.int64]:
    """Count the shares in `BINS` equal bins from 0 to 1 (K, bins)."""
    bins = (shares.flatten(1) * BINS).long().clamp_(0, BINS - 1).cpu().numpy()
    return np.stack([np.bincount(one, minlength=BINS) for one in bins])


def classify(towers: Towers, task: Task) -> tuple[Tensor, Tensor]:
    """Return the accuracy of each world, and the images' embeddings (K, N, M)."""
    images = towers.images(task.images)
    answers = (images @ towers.texts(task.prompts).transpose(1, 2)).argmax(dim=2)
    return (answers == task.labels).float().mean(dim=1), images


@dataclass(frozen=True, slots=True)
class Probe:
    """What towers of a trial are measured by."""

    world: World
    tasks: dict[str, Task]
    held_out: Pairs
    """Aligned pairs."""
    temperature: float

    def __call__(self, towers: Towers) -> dict[str, list[float]]:
        """Return each measure of each world."""
        shares = shares_of(towers.weights.image, self.world.image)
        found = {"purified": purified(shares).tolist(), "magnitude": magnitude(shares).tolist()}
        found["held_out_loss"] = self._held_out(towers)
        for name, task in self.tasks.items():
            accuracy, images = classify(towers, task)
            labels = task.labels.cpu().numpy()
            found[f"accuracy_{name}"] = accuracy.tolist()
            found[f"silhouette_{name}"] = [
                silhouette(one.numpy(), labels) for one in normalize(images, dim=2).cpu()
            ]
        return found

    def _held_out(self, towers: Towers) -> list[float]:
        """Return the loss per held-out pair of each world."""
        images, texts = (
            towers.images(self.held_out.images),
            towers.texts(self.held_out.texts[0]),
        )
        loss, _, _ = contrast(images, texts, self.temperature)
        return (loss / len(self.held_out.images)).tolist()


def make_probe(setting: Setting, world: World, stream: torch.Generator) -> Probe:
    """Draw what is measured on."""
    tasks = {name: draw_task(lead, setting, world, stream) for name, lead in TASKS.items()}
    held_out = draw_pairs(setting, setting.batch, 0, world, stream)
    return Probe(world, tasks, held_out, setting.temperature)
