"""The five-way zero-shot task: which fifth of the features does an image show most?

The paper says that class codes divide the features, and no more.  So there are three tasks: images
whose class leads all others by three features or more, or by two, and images that show features of
their class alone.  Shapes: C classes, D inputs, F features, N samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from train.experiments.simulation.pairs import World, draw_codes, draw_noise, matmul_dtype
from train.experiments.simulation.setting import Setting

NUM_CLASSES = 5
TASKS = {"lead_3": 3, "lead_2": 2, "alone": 0}
"""The least lead of the class; 0 where no other class shows."""
MAIN_TASK = "lead_3"
"""With aligned raw texts, its accuracy and silhouette are nearest to the paper's (LOG.md)."""


@dataclass(frozen=True, slots=True)
class Task:
    """Labelled images and the sentence of each class."""

    images: Tensor
    labels: Tensor
    prompts: Tensor
    """Texts that name all features of a class, without noise."""


def draw_task(lead: int, setting: Setting, world: World, stream: torch.Generator) -> Task:
    """Draw a balanced enough test set; see `TASKS` for the lead."""
    codes, labels = _alone(setting, stream) if lead == 0 else _leading(lead, setting, stream)
    prompts = torch.eye(NUM_CLASSES, device=stream.device)
    prompts = prompts.repeat_interleave(setting.num_features // NUM_CLASSES, dim=1)
    dtype = matmul_dtype(stream.device)
    images = codes @ world.image.T + draw_noise(len(codes), setting, stream)
    return Task(images.to(dtype), labels, (prompts @ world.text.T).to(dtype))


def _leading(lead: int, setting: Setting, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keep those of random codes whose first class is that much ahead of the second."""
    kept: list[Tensor] = []
    while sum(map(len, kept)) < setting.num_test:
        codes = draw_codes(10 * setting.num_test, setting.num_features, setting.test_rate, stream)
        first, second = _counts(codes).topk(2, dim=1).values.unbind(dim=1)
        kept.append(codes[first - second >= lead])
    codes = torch.cat(kept)[: setting.num_test]
    return codes, _counts(codes).argmax(dim=1)


def _counts(codes: Tensor) -> Tensor:
    return codes.view(len(codes), NUM_CLASSES, -1).sum(dim=2)


def _alone(setting: Setting, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Show at least one feature of each image's class, and none of another."""
    size = setting.num_features // NUM_CLASSES
    own = draw_codes(setting.num_test, size, setting.test_rate, stream)
    one = torch.randint(size, (setting.num_test, 1), generator=stream, device=stream.device)
    own = torch.where(
        own.sum(dim=1, keepdim=True) > 0, own, torch.zeros_like(own).scatter(1, one, 1)
    )
    rows = torch.arange(setting.num_test, device=stream.device)
    labels = rows % NUM_CLASSES
    codes = torch.zeros(setting.num_test, NUM_CLASSES, size, device=stream.device)
    codes[rows, labels] = own
    return codes.flatten(1), labels
