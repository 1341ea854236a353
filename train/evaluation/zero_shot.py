"""Classify images by sentences about the classes, without an example of any."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError
from train.evaluation.encoder import Encoder, Floats, encode_texts
from train.evaluation.images import embed
from train.evaluation.intervals import interval, mean_interval
from train.evaluation.labelled import Labelled
from train.evaluation.ranks import Probabilities, found_in
from train.evaluation.results import Result
from train.evaluation.templates import CLIP, fill


def class_embeddings(
    encoder: Encoder, classes: Sequence[str], templates: Sequence[str] = CLIP
) -> Floats:
    """Return the mean over templates of a class's sentences, each of length 1, at length 1.

    Source: CLIP's notebook, as open_clip builds its classifier.  ALIGN (arXiv:2102.05918, section
    5.2) averages and normalises too, and does not say whether each sentence is normalised first.

    Returns:
        (classes, d).
    """
    per = len(templates)
    some = max(1, 8192 // per)
    rows = []
    for first in range(0, len(classes), some):
        names = classes[first : first + some]
        texts = encode_texts(encoder, [text for name in names for text in fill(templates, name)])
        rows.append(texts.reshape(len(names), per, -1).mean(axis=1))
    means = np.concatenate(rows)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def zero_shot(encoder: Encoder, data: Labelled, templates: Sequence[str] = ()) -> Result:
    """Classify each image by the nearest class.

    Args:
        encoder: What is evaluated.
        data: Labelled images.
        templates: Sentences; none for those that lie beside the data, or else CLIP's 80.

    Raises:
        RecipeError: There are fewer than two classes.
    """
    if len(data.classes) < 2:
        raise RecipeError(
            f"{data.name} must have two or more classes to tell apart, got {len(data.classes)}; "
            "add folders or labels"
        )
    templates = templates or data.templates or CLIP
    classes = class_embeddings(encoder, data.classes, templates)
    images = embed(encoder.encode_images, data.images)
    cosines = images.vectors.astype(np.float64) @ classes.astype(np.float64).T
    labels = data.labels[images.at]
    metrics, intervals = accuracy(found_in(cosines, labels, (1, 5)), labels, len(data.classes))
    return Result(
        dataset=data.name,
        task="zeroshot_classification",
        metrics=metrics,
        intervals=intervals,
        counts={"images": len(labels), "classes": len(data.classes), "templates": len(templates)},
        faults=data.faults | images.faults,
    )


def accuracy(
    found: Probabilities, labels: NDArray[np.int64], num_classes: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return the accuracies of a classifier, and their intervals, by clip_benchmark's names.

    Args:
        found: Whether the right class is the first, and among the first five; (n, 2).
        labels: The right classes.
        num_classes: Of all; below five, `acc5` is NaN.
    """
    first = found[:, 0]
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))

    def balanced(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean over classes of the share that is right, for each row of weights."""
        drawn = np.add.reduceat(weights[:, order], starts, axis=1)
        right = np.add.reduceat((weights * first)[:, order], starts, axis=1)
        present = drawn > 0
        shares = np.divide(right, drawn, out=np.zeros_like(right), where=present)
        means: NDArray[np.float64] = shares.sum(axis=1) / present.sum(axis=1)
        return means

    metrics = {
        "acc1": float(first.mean()),
        "acc5": float(found[:, 1].mean()) if num_classes >= 5 else float("nan"),
        "mean_per_class_recall": float(balanced(np.ones((1, len(labels))))[0]),
    }
    intervals = {
        "acc1": mean_interval(first),
        "mean_per_class_recall": interval(balanced, len(labels)),
    }
    return metrics, intervals
