"""Learn a linear classifier on frozen features: linear probes, and tasks of 1000 examples."""

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa

from filters.rule import RecipeError
from train.evaluation.encoder import Encoder
from train.evaluation.labelled import read_manifest
from train.evaluation.ranks import found_in
from train.evaluation.results import Result
from train.evaluation.splits import (
    Features,
    Splits,
    all_faults,
    extractor,
    features,
    splits_from_rows,
)
from train.evaluation.zero_shot import accuracy

FIRST_SWEEP = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
"""Decimal logarithms of C.  Source: CLIP (arXiv:2103.00020), appendix A.3."""
HALVINGS = 4
"""Of the distance to the best C's neighbours: to 8 steps a decade, as CLIP's."""
MAX_ITERATIONS = 1000
"""Of L-BFGS.  Source: CLIP, appendix A.3."""
EXAMPLES = 1000
"""Source: VTAB (arXiv:1910.04867), section 3."""


def linear_probe(encoder: Encoder, data: Splits, task: str = "linear_probe") -> Result:
    """Choose C on the validation images, learn from both parts, and measure on the test images.

    Source: CLIP, appendix A.3: logistic regression by L-BFGS, without augmentation, and a search
    for C that halves its steps.

    Raises:
        RecipeError: scikit-learn is not installed.
    """
    encode, which = extractor(encoder)
    train, validation, test = (
        features(encode, part) for part in (data.train, data.validation, data.test)
    )
    strength = _best(train, validation)
    both = Features(
        np.concatenate([train.vectors, validation.vectors]),
        np.concatenate([train.labels, validation.labels]),
        {},
    )
    scores, converged = _scores(both, test, strength, len(data.test.classes))
    found = found_in(scores, test.labels, (1, 5))
    metrics, intervals = accuracy(found, test.labels, len(data.test.classes))
    return Result(
        dataset=data.train.name,
        task=task,
        metrics=metrics,
        intervals=intervals,
        counts={
            "train": len(train.labels),
            "validation": len(validation.labels),
            "images": len(test.labels),
            "classes": len(data.test.classes),
        },
        faults=all_faults(train, validation, test),
        settings={"C": 10**strength, "features": which, "converged": converged},
    )


def _best(train: Features, validation: Features) -> float:
    """Return the decimal logarithm of the C that is best on the validation images."""
    right: dict[float, float] = {}

    def look(strength: float) -> None:
        if strength not in right and abs(strength) <= FIRST_SWEEP[-1]:
            classes = int(max(train.labels.max(), validation.labels.max())) + 1
            scores, _ = _scores(train, validation, strength, classes)
            right[strength] = float(found_in(scores, validation.labels, (1,)).mean())

    for strength in FIRST_SWEEP:
        look(strength)
    step = FIRST_SWEEP[1] - FIRST_SWEEP[0]
    for _ in range(HALVINGS):
        best, step = max(right, key=lambda one: right[one]), step / 2
        look(best - step)
        look(best + step)
    return max(right, key=lambda one: right[one])


def _scores(
    train: Features, test: Features, strength: float, num_classes: int
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], bool]:
    """Learn, and return the logits of each test image, and whether L-BFGS converged.

    A class without a training image is the least likely one.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise RecipeError(
            'a linear probe must have scikit-learn, got none; pip install "altmill[train]"'
        ) from None
    model = LogisticRegression(C=10**strength, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(train.vectors, train.labels)
    converged = not any(issubclass(one.category, ConvergenceWarning) for one in caught)
    scores = np.full((len(test.labels), num_classes), -np.inf)
    logits = model.decision_function(test.vectors)
    scores[:, model.classes_] = np.stack([-logits, logits], 1) if logits.ndim == 1 else logits
    return np.maximum(scores, -1e30), converged


def vtab(encoder: Encoder, path: Path) -> list[Result]:
    """Learn each task of a manifest from 1000 examples, and return also the means over tasks.

    Of the training rows, 800 and 200 choose C; the last classifier learns from all 1000.  VTAB
    itself trains the whole tower; here the tower is frozen.  Source: VTAB (arXiv:1910.04867),
    section 3.

    Args:
        encoder: What is evaluated.
        path: A manifest: see `labelled.open_labelled`; with `task`, and `group` perhaps, such as
            natural, specialized and structured.
    """
    rows = read_manifest(path, {"image", "label", "split", "task"})
    results, groups = [], {}
    for name in sorted(rows["task"].drop_null().unique().to_pylist()):
        some = rows.filter(pa.compute.equal(rows["task"], name))
        splits = splits_from_rows(some, path, str(name), EXAMPLES)
        results.append(linear_probe(encoder, splits, "vtab"))
        groups[str(name)] = some["group"][0].as_py() if "group" in rows.column_names else None
    return [*results, _means(path.stem, results, groups)]


def _means(name: str, results: list[Result], groups: dict[str, str | None]) -> Result:
    """Return the mean over tasks, and over those of each group."""
    metrics = {"mean_acc1": float(np.mean([one.metrics["acc1"] for one in results]))}
    for group in sorted({group for group in groups.values() if group}):
        of_group = [one.metrics["acc1"] for one in results if groups[one.dataset] == group]
        metrics[f"{group}_acc1"] = float(np.mean(of_group))
    return Result(dataset=name, task="vtab_mean", metrics=metrics, counts={"tasks": len(results)})
