"""Representation measures: scikit-learn's and scipy's, and what they are of the extremes."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from tests.train.evaluation.colours import (
    CollapsedEncoder,
    ColourEncoder,
    directions,
    unit,
    write_folders,
)
from train.evaluation import measures as module
from train.evaluation.labelled import open_labelled
from train.evaluation.measures import (
    alignment,
    effective_rank,
    measures,
    modality_gap,
    neuron_purity,
    silhouette,
    uniformity,
)


def test_uniformity_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 100)  # three rows at once
    vectors = directions(30, 5)

    plain = np.log(np.exp(-2 * pdist(vectors, "sqeuclidean")).mean())

    assert uniformity(vectors) == pytest.approx(plain, abs=1e-6)


def test_the_silhouette_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra train")
    random = np.random.default_rng(0)
    labels = np.r_[random.integers(0, 4, 60), 9]  # the last is the only one of its class
    vectors = unit(directions(10, 6)[labels] + directions(61, 6, seed=1))

    theirs = metrics.silhouette_score(vectors.astype(np.float64), labels, metric="cosine")

    assert silhouette(vectors, labels) == pytest.approx(theirs, abs=1e-6)


def test_alignment_and_gap_are_distances() -> None:
    images, texts = directions(20, 4), directions(20, 4, seed=1)

    apart = np.linalg.norm(images - texts, axis=1)

    assert alignment(images, texts) == pytest.approx((apart**2).mean(), rel=1e-5)
    assert alignment(images, images) == 0
    assert modality_gap(images, -images) == pytest.approx(2 * np.linalg.norm(images.mean(axis=0)))
    assert modality_gap(images, images) == 0


def test_the_effective_rank_counts_the_dimensions_in_use() -> None:
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.ones((9, 4))) == pytest.approx(1)
    assert 3 < effective_rank(directions(500, 4)) <= 4


def test_neurons_at_right_angles_are_pure() -> None:
    assert neuron_purity(np.eye(4)[:3] * 5) == 0
    assert neuron_purity(-np.outer([1, 2, 3], np.ones(6))) == pytest.approx(1)
    assert neuron_purity(np.array([[1, 0], [1, 1]])) == pytest.approx(0.5**0.5)


def test_classes_that_are_told_apart_are_apart(tmp_path: Path) -> None:
    data = open_labelled(write_folders(tmp_path))

    seen, collapsed = measures(ColourEncoder(), data), measures(CollapsedEncoder(), data)

    assert seen.metrics["silhouette"] > 0.8
    assert seen.metrics["alignment"] < 0.1
    assert seen.metrics["image_uniformity"] < -0.5
    assert collapsed.metrics["silhouette"] == pytest.approx(0, abs=1e-6)
    assert collapsed.metrics["image_uniformity"] == pytest.approx(0, abs=1e-6)
    assert collapsed.metrics["image_effective_rank"] == pytest.approx(1)


def test_neurons_of_a_model_that_shows_them_are_measured(tmp_path: Path) -> None:
    class Open(ColourEncoder):
        def projections(self) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
            return {"image": np.eye(3)}

    result = measures(Open(), open_labelled(write_folders(tmp_path)))

    assert result.metrics["image_neuron_purity"] == 0
