"""Test a model on pictures whose truth is planted, and on what it may have mixed up with it.

The pictures are those of `python -m pipelines sample`: scenes, whose classes are all pairs of a
colour and a shape, or images of a labelled folder.  Each class has a partner, which a noisy corpus
names in its place (`pipelines.classes`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError
from pipelines.classes import Classes, classes_of
from train.evaluation.encoder import Encoder, Floats
from train.evaluation.images import embed
from train.evaluation.intervals import mean_interval
from train.evaluation.labelled import Labelled, open_labelled
from train.evaluation.measures import Projected, alignment, neuron_purity, silhouette, uniformity
from train.evaluation.results import Result
from train.evaluation.templates import SIMPLE
from train.evaluation.zero_shot import class_embeddings


def planted(encoder: Encoder, path: Path) -> list[Result]:
    """Test a model on a sample, on seen and on held-out classes.

    Returns:
        For each group that there are pictures of: `acc1`, of all classes; of scenes `colour_acc1`
        and `shape_acc1`, of what is right of the class that was found; `true_margin` and
        `spurious_margin`, see `margins`; and measures of the space, as in `measures`.

    Raises:
        RecipeError: It is no sample.
    """
    known = classes_of(path)
    data = open_labelled(path, label="+".join(known.columns))
    labels = _labels(data, known)
    names = class_embeddings(encoder, [" ".join(one) for one in known.partners], SIMPLE)
    seen = embed(encoder.encode_images, data.images)
    labels = labels[seen.at]
    purity = {}
    if isinstance(encoder, Projected):
        weights = encoder.projections().items()
        purity = {f"{tower}_neuron_purity": neuron_purity(one) for tower, one in weights}
    results = []
    for group, some in known.groups.items():
        here = np.isin(labels, [place for place, one in enumerate(known.partners) if one in some])
        if here.any():
            name = f"{path.name}-{group}"
            results.append(_result(name, seen.vectors[here], labels[here], names, known))
    for result in results:
        result.metrics.update(purity)
        result.faults.update(data.faults | seen.faults)
    return results


def _labels(data: Labelled, known: Classes) -> NDArray[np.int64]:
    """Return the place among the known classes of each picture's label."""
    places = {" ".join(one): place for place, one in enumerate(known.partners)}
    unknown = sorted(set(data.classes) - set(places))
    if unknown:
        raise RecipeError(
            f"{data.name} must be a sample of coloured shapes, got {', '.join(unknown[:3])}; name "
            "what python -m pipelines sample wrote"
        )
    return np.array([places[name] for name in data.classes], np.int64)[data.labels]


def _result(
    name: str, images: Floats, labels: NDArray[np.int64], classes: Floats, known: Classes
) -> Result:
    cosines = images.astype(np.float64) @ classes.astype(np.float64).T
    found = cosines.argmax(axis=1)
    right = {"acc1": found == labels}
    words = np.array([*known.partners])
    for place, what in enumerate(known.columns if len(known.columns) > 1 else ()):
        right[f"{what}_acc1"] = words[found, place] == words[labels, place]
    apart = margins(cosines, labels, places_of_partners(known))
    each: Mapping[str, NDArray[np.float64]] = {
        **{what: one.astype(np.float64) for what, one in right.items()},
        **dict(zip(("true_margin", "spurious_margin"), apart, strict=True)),
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
        counts={"images": len(images), "classes": len(classes), "templates": len(SIMPLE)},
    )


def places_of_partners(known: Classes) -> NDArray[np.int64]:
    """Return, (classes,), the place of each class's partner."""
    places = {one: place for place, one in enumerate(known.partners)}
    return np.array([places[partner] for partner in known.partners.values()], np.int64)


def margins(
    cosines: NDArray[np.float64], labels: NDArray[np.int64], partners: NDArray[np.int64]
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
