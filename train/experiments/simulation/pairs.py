"""Draw pairs of images and texts that share sparse features, some of the texts misaligned.

An image is M z + noise, a text H z' + noise; dictionaries M and H have orthonormal columns, and z
says which features are present.  Source: Sun et al., NeurIPS 2025, sections 3 and 5.1.

Shapes: D inputs, F features, N samples, P partners, K worlds, which differ in how often texts are
spurious.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from train.experiments.simulation.setting import Setting


class Purpose(IntEnum):
    """What random numbers are for; each has a stream of its own, so none disturbs another."""

    WORLD = 0
    TRAINING = 1
    WEIGHTS = 2
    BATCHES = 3
    TEST = 4
    FRESH = 5
    NOISE = 6


def random_stream(seed: int, trial: int, purpose: Purpose, device: str) -> torch.Generator:
    """Return the random numbers of one purpose in one trial."""
    state = np.random.SeedSequence([seed, trial, purpose]).generate_state(1)
    return torch.Generator(device).manual_seed(int(state[0]))


@dataclass(frozen=True, slots=True)
class World:
    """What generates the pairs of a trial."""

    image: Tensor
    """The dictionary of images, M."""
    text: Tensor
    """The dictionary of texts, H."""
    partners: Tensor
    """The features that may be named, falsely, in place of each."""


def draw_world(setting: Setting, stream: torch.Generator) -> World:
    """Draw dictionaries, normal numbers made orthonormal by QR, and each feature's partners."""
    device, features = stream.device, setting.num_features
    shape = (setting.num_inputs, features)
    image, text = (
        torch.linalg.qr(torch.randn(shape, generator=stream, device=device)).Q for _ in range(2)
    )
    order = torch.rand(features, features, generator=stream, device=device)
    order.fill_diagonal_(2.0)  # sorts a feature itself last: it is no partner of its own
    return World(image, text, order.argsort(dim=1)[:, : setting.num_partners])


def draw_codes(num: int, features: int, rate: float, stream: torch.Generator) -> Tensor:
    """Draw which features are present (N, F): 1 with probability `rate`, else 0."""
    return (torch.rand(num, features, generator=stream, device=stream.device) < rate).float()


def draw_noise(num: int, setting: Setting, stream: torch.Generator) -> Tensor:
    """Draw the noise of images or texts (N, D)."""
    noise = torch.randn(num, setting.num_inputs, generator=stream, device=stream.device)
    return noise.mul_(setting.noise_deviation)


def misalign(
    codes: Tensor, partners: Tensor, shares: Sequence[float], stream: torch.Generator
) -> Tensor:
    """Name, in place of each present feature, one of its partners with a given probability.

    One set of draws serves every share: a larger one adds mistakes to those of a smaller one.

    Args:
        codes: The features of the images.
        partners: The partners of each feature.
        shares: The probability in each world, C_s.
        stream: Of the draws.

    Returns:
        The features of the texts (K, N, F).
    """
    device = stream.device
    draws = torch.rand(codes.shape, generator=stream, device=device)
    columns = torch.randint(partners.shape[1], codes.shape, generator=stream, device=device)
    named = partners[torch.arange(codes.shape[1], device=device), columns]
    wrong = codes * (draws < torch.tensor(shares, device=device)[:, None, None])
    spurious = torch.zeros_like(wrong).scatter_add_(2, named.expand_as(wrong), wrong)
    return (codes - wrong + spurious).clamp_(max=1)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to train on: clean ones first, then raw ones, whose texts differ between worlds."""

    images: Tensor
    texts: Tensor
    codes: Tensor
    """The features of the images."""
    named: Tensor
    """The features of the texts."""
    num_clean: int

    def clean(self) -> "Pairs":
        """Return the clean pairs, of one world: in all they are the same."""
        some = slice(self.num_clean)
        images, codes = self.images[some], self.codes[some]
        return Pairs(images, self.texts[:1, some], codes, codes[None], self.num_clean)


def draw_pairs(
    setting: Setting, num_clean: int, num_raw: int, world: World, stream: torch.Generator
) -> Pairs:
    """Draw pairs of all worlds of a setting: the same images and noise, ever more wrong texts."""
    num = num_clean + num_raw
    codes = draw_codes(num, setting.num_features, setting.rate, stream)
    named = misalign(codes, world.partners, setting.spurious, stream)
    named[:, :num_clean] = codes[:num_clean]
    dtype = matmul_dtype(stream.device)
    images = (codes @ world.image.T).add_(draw_noise(num, setting, stream)).to(dtype)
    noise = draw_noise(num, setting, stream)
    texts = torch.stack([(one @ world.text.T).add_(noise).to(dtype) for one in named])
    return Pairs(images, texts, codes, named, num_clean)


def matmul_dtype(device: torch.device) -> torch.dtype:
    """Return what samples are kept in, and what products of matrices take: bfloat16 where fast.

    Weights and sums stay float32.  On AVX-512 with bfloat16 a step takes a third of the time of
    float32 (ours, measured); the figures differ by less than trials do (LOG.md).
    """
    fast = device.type == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.bfloat16 if fast else torch.float32
