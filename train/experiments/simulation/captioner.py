"""Train a captioner on clean pairs, and replace raw texts by what it writes where that fits better.

Source: Sun et al., NeurIPS 2025, section 2: the four stages, of which these are the middle two.
Shapes: B batch, D inputs, N samples, K worlds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from train.experiments.simulation.pairs import Pairs, World
from train.experiments.simulation.setting import Setting
from train.experiments.simulation.training import Batch, Towers, descend, project


@dataclass(frozen=True, slots=True)
class Captioner:
    """Writes the text V^T f(x) of an image x, with weights of its own."""

    towers: Towers

    def __call__(self, images: Tensor) -> Tensor:
        """Return the captions (K, B, D) of images (B, D)."""
        said = self.towers.images(images).to(images.dtype)
        return torch.bmm(said, self.towers.weights.text.to(images.dtype))


def train_captioner(towers: Towers, clean: Iterator[Batch], setting: Setting) -> Captioner:
    """Train a captioner that begins as the towers are, by squared error on clean pairs."""
    weights = towers.weights.clone()
    unit, rate = towers.image_unit, setting.learning_rate
    for images, texts in islice(clean, setting.caption_steps):
        said, slope = unit(project(images, weights.image), weights.image)
        decoder = weights.text.to(images.dtype)
        errors = torch.bmm(said.to(images.dtype), decoder) - texts
        by_said = torch.bmm(errors, decoder.transpose(1, 2)).float()
        descend(weights.text, said, errors, rate)
        descend(weights.image, by_said * slope, images, rate)
    return Captioner(towers.at(weights))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Texts after the filter."""

    texts: Tensor
    captions: Tensor
    """Of all images, whether they were taken or not."""
    replaced: Tensor
    """Whether the caption was taken."""


def rewrite(towers: Towers, captioner: Captioner, pairs: Pairs) -> Rewritten:
    """Replace each raw text by its caption where that has the larger cosine with the image."""
    images = towers.images(pairs.images)
    captions = captioner(pairs.images)
    gain = _cosines(images, towers.texts(captions)) - _cosines(images, towers.texts(pairs.texts))
    replaced = gain > 0
    replaced[:, : pairs.num_clean] = False
    texts = torch.where(replaced.unsqueeze(2), captions, pairs.texts)
    return Rewritten(texts, captions, replaced)


def _cosines(images: Tensor, texts: Tensor) -> Tensor:
    return cosine_similarity(images, texts, dim=2)


def name_features(
    pairs: Pairs, rewritten: Rewritten, world: World, shares: Sequence[float]
) -> list[dict[str, float]]:
    """Say how far raw texts, captions and the filter's texts name what the images show.

    A caption names a feature if more than half of it is there: <y, H_j> > 1/2.

    Returns:
        Of each share of spurious features, over the raw pairs: `wrong_*`, of the features that are
        named, those that the image lacks; `missed_*`, of those that it has, those that are not
        named; `replaced_misaligned` and `replaced_aligned`, of such texts, those replaced.
    """
    rows = slice(pairs.num_clean, None)
    true = pairs.codes[rows]
    told = []
    for at, share in enumerate(shares):
        raw, replaced = pairs.named[at, rows], rewritten.replaced[at, rows]
        captions = (rewritten.captions[at, rows].float() @ world.text > 0.5).float()
        after = torch.where(replaced.unsqueeze(1), captions, raw)
        named = {"raw": raw, "captions": captions, "filtered": after}
        misaligned = (raw != true).any(dim=1)
        told.append(
            {"spurious": share}
            | {f"wrong_{name}": _share(1 - true, one) for name, one in named.items()}
            | {f"missed_{name}": _share(1 - one, true) for name, one in named.items()}
            | {
                "replaced_misaligned": _share(replaced.float(), misaligned.float()),
                "replaced_aligned": _share(replaced.float(), 1 - misaligned.float()),
            }
        )
    return told


def _share(part: Tensor, of: Tensor) -> float:
    """Return which share of `of` is in `part`, too; NaN of nothing."""
    return float((part * of).sum() / of.sum())
