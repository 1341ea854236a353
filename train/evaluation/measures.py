"""What the space of a model looks like: how tight, how spread, how far apart its two halves."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from train.evaluation.encoder import Encoder, Floats, encode_texts
from train.evaluation.images import embed
from train.evaluation.labelled import Labelled
from train.evaluation.results import Result
from train.evaluation.templates import SIMPLE, fill

_CELLS = 1 << 23


@runtime_checkable
class Projected(Protocol):
    """An encoder that shows the weights that end its towers."""

    def projections(self) -> dict[str, Floats]:
        """Return the weights (embedding, width) of each tower's last linear layer, by its name."""


def alignment(images: Floats, texts: Floats) -> float:
    """Return the mean squared distance of an image to its text, from 0 to 4.

    Source: Wang and Isola (arXiv:2005.10242), section 4.1, alpha = 2.
    """
    return float(((images.astype(np.float64) - texts) ** 2).sum(axis=1).mean())


def uniformity(vectors: Floats) -> float:
    """Return the logarithm of the mean of exp(-2 d^2) over pairs; lower is more even; 0 collapsed.

    Source: Wang and Isola (arXiv:2005.10242), section 4.1, t = 2.

    Args:
        vectors: (n, d), of length 1; two or more.
    """
    wide = vectors.astype(np.float64)
    total, step = 0.0, max(1, _CELLS // len(wide))
    for first in range(0, len(wide), step):
        total += float(np.exp(4 * (wide[first : first + step] @ wide.T) - 4).sum())
    itself = float(np.exp(4 * (wide**2).sum(axis=1) - 4).sum())
    return float(np.log((total - itself) / (len(wide) * (len(wide) - 1))))


def modality_gap(images: Floats, texts: Floats) -> float:
    """Return the distance of the images' mean to the texts' mean.

    Source: Liang et al. (arXiv:2203.02053), section 2.
    """
    apart = images.mean(axis=0, dtype=np.float64) - texts.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(apart))


def effective_rank(vectors: Floats) -> float:
    """Return how many dimensions are in use: the exponential of the singular values' entropy.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007; nothing is centred, as in RankMe
    (arXiv:2210.02885).
    """
    values = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def silhouette(vectors: Floats, labels: NDArray[np.int64]) -> float:
    """Return the mean silhouette of the classes, by cosine distance, from -1 to 1.

    The distances of a vector of length 1 to a class add up to a product with the class's sum, so no
    pair is ever looked at.  Source: Rousseeuw, "Silhouettes", 1987; 0 for the only one of a class.

    Args:
        vectors: (n, d), of length 1.
        labels: Of two or more classes.
    """
    _, own = np.unique(labels, return_inverse=True)
    counts = np.bincount(own)
    wide = vectors.astype(np.float64)
    sums = np.zeros((len(counts), wide.shape[1]))
    np.add.at(sums, own, wide)
    totals = counts - wide @ sums.T  # of distances to each class
    rows = np.arange(len(own))
    itself = 1 - (wide**2).sum(axis=1)
    within = (totals[rows, own] - itself) / np.maximum(counts[own] - 1, 1)
    means = totals / counts
    means[rows, own] = np.inf
    nearest = means.min(axis=1)
    scale = np.maximum(within, nearest)
    each = np.where(scale > 0, (nearest - within) / np.where(scale > 0, scale, 1), 0)
    return float(np.where(counts[own] > 1, each, 0).mean())


def neuron_purity(weights: Floats) -> float:
    """Return the mean absolute cosine between the neurons of a layer; lower is purer.

    Neurons that each stand for one feature are at right angles; those that mix features are not.
    Source: the measure of Sun et al., "Contrastive Learning with Data Misalignment: Feature Purity,
    Training Dynamics and Theoretical Generalization Guarantees", NeurIPS 2025.

    Args:
        weights: (neurons, inputs), as torch's `Linear` stores them; two neurons or more.
    """
    wide = weights.astype(np.float64)
    wide = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    cosines = np.abs(wide @ wide.T)
    np.fill_diagonal(cosines, 0)
    return float(cosines.sum() / (len(wide) * (len(wide) - 1)))


def measures(encoder: Encoder, data: Labelled) -> Result:
    """Measure labelled images against one sentence about each one's class, "a photo of a ..."."""
    seen = embed(encoder.encode_images, data.images)
    images, labels = seen.vectors, data.labels[seen.at]
    classes = encode_texts(encoder, [fill(SIMPLE, name)[0] for name in data.classes])
    figures = {
        "alignment": alignment(images, classes[labels]),
        "image_uniformity": uniformity(images) if len(images) > 1 else float("nan"),
        "text_uniformity": uniformity(classes) if len(classes) > 1 else float("nan"),
        "modality_gap": modality_gap(images, classes[labels]),
        "image_effective_rank": effective_rank(images),
        "silhouette": silhouette(images, labels) if len(np.unique(labels)) > 1 else float("nan"),
    }
    if isinstance(encoder, Projected):
        figures |= {
            f"{name}_neuron_purity": neuron_purity(weights)
            for name, weights in encoder.projections().items()
        }
    return Result(
        dataset=data.name,
        task="representation",
        metrics=figures,
        counts={"images": len(images), "classes": len(data.classes), "dimensions": images.shape[1]},
        faults=data.faults | seen.faults,
    )
