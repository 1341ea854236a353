"""Test a model on pictures whose truth is planted, and on what it may have mixed up with it.

The pictures are those of `python -m pipelines sample`.  Classes are all pairs of a colour and a
shape; each has a partner, which a noisy corpus names in its place (`pipelines.mixture`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError
from pipelines.mixture import COMBINATIONS, partner_of
from train.evaluation.encoder import Encoder, Floats
from train.evaluation.images import embed
from train.evaluation.intervals import mean_interval
from train.evaluation.labelled import Labelled, open_labelled
from train.evaluation.measures import Projected, alignment, neuron_purity, silhouette, uniformity
from train.evaluation.results import Result
from train.evaluation.templates import SIMPLE
from train.evaluation.zero_shot import class_embeddings

GROUPS = ("seen", "held-out")
"""Of `COMBINATIONS`: told apart from all classes, and told of separately."""
_PAIRS = sorted(COMBINATIONS["all"])
CLASSES = tuple(" ".join(pair) for pair in _PAIRS)
_PLACES = {pair: place for place, pair in enumerate(_PAIRS)}
PARTNERS = np.array([_PLACES[partner_of(*pair)] for pair in _PAIRS])
"""The place of each class's partner."""


def planted(encoder: Encoder, path: Path) -> list[Result]:
    """Test a model on a sample, on seen and on held-out combinations.

    Returns:
        For each group that there are pictures of: `acc1`, of all 48 classes; `colour_acc1` and
        `shape_acc1`, of what is right of the class that was found; `true_margin` and
        `spurious_margin`, see `margins`; and measures of the space, as in `measures`.

    Raises:
        RecipeError: It is no sample.
    """
    data = open_labelled(path, label="colour+shape")
    labels = _labels(data)
    classes = class_embeddings(encoder, CLASSES, SIMPLE)
    seen = embed(encoder.encode_images, data.images)
    labels = labels[seen.at]
    purity = {}
    if isinstance(encoder, Projected):
        weights = encoder.projections().items()
        purity = {f"{tower}_neuron_purity": neuron_purity(one) for tower, one in weights}
    results = []
    for group in GROUPS:
        of = np.array([_PLACES[pair] for pair in sorted(COMBINATIONS[group])])
        here = np.isin(labels, of)
        if here.any():
            results.append(
                _result(f"{path.name}-{group}", seen.vectors[here], labels[here], classes)
            )
    for result in results:
        result.metrics.update(purity)
        result.faults.update(data.faults | seen.faults)
    return results


def _labels(data: Labelled) -> NDArray[np.int64]:
    """Return the place in `CLASSES` of each picture's label."""
    unknown = sorted(set(data.classes) - set(CLASSES))
    if unknown:
        raise RecipeError(
            f"{data.name} must be a sample of coloured shapes, got {', '.join(unknown[:3])}; name "
            "what python -m pipelines sample wrote"
        )
    places = np.array([CLASSES.index(name) for name in data.classes])
    return np.asarray(places[data.labels], np.int64)


def _result(name: str, images: Floats, labels: NDArray[np.int64], classes: Floats) -> Result:
    cosines = images.astype(np.float64) @ classes.astype(np.float64).T
    found = cosines.argmax(axis=1)
    right = {"acc1": found == labels} | {
        f"{what}_acc1": _words(found, place) == _words(labels, place)
        for place, what in enumerate(("colour", "shape"))
    }
    each: Mapping[str, NDArray[np.float64]] = {
        **{what: one.astype(np.float64) for what, one in right.items()},
        **dict(zip(("true_margin", "spurious_margin"), margins(cosines, labels), strict=True)),
    }
    space = {
        "alignment": alignment(images, classes[labels]),
        "image_uniformity": uniformity(images) if len(images) > 1 else float("nan"),
        "silhouette": silhouette(images, labels) if len(np.unique(labels)) > 1 else float("nan"),
    }
    return Result(
        dataset=name,
        task="planted",
        metrics={what: float(one.mean()) for what, one in each.items()} | space,
        intervals={what: mean_interval(one) for what, one in each.items()},
        counts={"images": len(images), "classes": len(CLASSES), "templates": len(SIMPLE)},
    )


def _words(places: NDArray[np.int64], at: int) -> NDArray[np.str_]:
    return np.array([pair[at] for pair in _PAIRS])[places]


def margins(
    cosines: NDArray[np.float64], labels: NDArray[np.int64], partners: NDArray[np.int64] = PARTNERS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far each image is nearer to its class, and to the partner, than to the others.

    A model that has learnt the spurious feature as well as the true one has two equal margins.
    Source: ours, after Sun et al. (NeurIPS 2025), theorem 4.2: both weights are of one order.

    Args:
        cosines: (images, classes).
        labels: (images,): true classes.
        partners: (classes,): the partner of each, which is another one.

    Returns:
        The true and the spurious margins, (images,) each: the cosine to the true class, or to its
        partner, less the mean of the cosines to all classes but these two.
    """
    rows = np.arange(len(labels))
    true, spurious = cosines[rows, labels], cosines[rows, partners[labels]]
    others = (cosines.sum(axis=1) - true - spurious) / (cosines.shape[1] - 2)
    return true - others, spurious - others
