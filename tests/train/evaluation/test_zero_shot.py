"""Zero-shot classification: open_clip's classifier, scikit-learn's recall, chance if collapsed."""

from pathlib import Path

import numpy as np
import pytest

from filters.rule import RecipeError
from tests.train.evaluation.colours import (
    COLOURS,
    CollapsedEncoder,
    ColourEncoder,
    directions,
    write_folders,
)
from train.evaluation.encoder import Floats
from train.evaluation.labelled import open_labelled
from train.evaluation.ranks import found_in
from train.evaluation.templates import CLIP, SEVEN
from train.evaluation.zero_shot import accuracy, class_embeddings, zero_shot


def test_colours_are_told_apart(tmp_path: Path) -> None:
    data = open_labelled(write_folders(tmp_path))

    result = zero_shot(ColourEncoder(), data)

    assert result.metrics == {"acc1": 1, "acc5": 1, "mean_per_class_recall": 1}
    assert result.counts == {"images": 18, "classes": 6, "templates": 80}
    assert result.intervals["acc1"] == (1, 1)


def test_a_collapsed_model_is_right_by_chance(tmp_path: Path) -> None:
    data = open_labelled(write_folders(tmp_path))

    metrics = zero_shot(CollapsedEncoder(), data).metrics

    assert metrics["acc1"] == pytest.approx(1 / 6)
    assert metrics["acc5"] == pytest.approx(5 / 6)
    assert metrics["mean_per_class_recall"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("templates", [CLIP, SEVEN])
def test_class_embeddings_are_those_of_open_clip(templates: tuple[str, ...]) -> None:
    open_clip = pytest.importorskip("open_clip", reason="a test-only dependency")
    torch = pytest.importorskip("torch", reason="needs the extra train")
    classes = [*COLOURS, "no colour"]

    class Hashed(ColourEncoder):
        """Brings each text to a direction of its own."""

        def encode_texts(self, texts: object) -> Floats:
            return np.concatenate(
                [directions(1, 16, seed=sum(map(ord, str(one)))) for one in list(texts)]  # type: ignore[call-overload]
            )

    class Theirs:
        def encode_text(self, texts: list[str], normalize: bool) -> object:
            assert normalize
            return torch.from_numpy(Hashed().encode_texts(texts))

    class Tokens(list[str]):
        def to(self, device: str) -> "Tokens":
            assert device == "cpu"
            return self

    theirs = open_clip.build_zero_shot_classifier(Theirs(), Tokens, classes, templates)

    ours = class_embeddings(Hashed(), classes, templates)

    np.testing.assert_allclose(ours.T, theirs.numpy(), atol=1e-6)


def test_accuracies_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra train")
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((200, 8)), random.integers(0, 7, 200)

    ours, intervals = accuracy(found_in(scores, labels, (1, 5)), labels, 8)

    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = metrics.balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert ours["acc1"] == pytest.approx(
        metrics.top_k_accuracy_score(labels, scores, k=1, labels=range(8))
    )
    assert ours["acc5"] == pytest.approx(
        metrics.top_k_accuracy_score(labels, scores, k=5, labels=range(8))
    )
    assert ours["mean_per_class_recall"] == pytest.approx(balanced)
    for name, (low, high) in intervals.items():
        assert low < ours[name] < high


def test_the_interval_of_accuracy_is_that_of_the_binomial() -> None:
    found = np.repeat([[1.0, 1.0], [0.0, 1.0]], [300, 100], axis=0)

    low, high = accuracy(found, np.arange(400) % 4, 4)[1]["acc1"]

    deviation = (0.75 * 0.25 / 400) ** 0.5
    assert low == pytest.approx(0.75 - 1.96 * deviation, abs=0.006)
    assert high == pytest.approx(0.75 + 1.96 * deviation, abs=0.006)


def test_top_five_of_fewer_classes_is_not_told(tmp_path: Path) -> None:
    data = open_labelled(write_folders(tmp_path, ["red", "blue"]))

    assert np.isnan(zero_shot(ColourEncoder(), data).metrics["acc5"])


def test_one_class_is_refused(tmp_path: Path) -> None:
    data = open_labelled(write_folders(tmp_path, ["red"]))

    with pytest.raises(RecipeError, match="must have two or more classes to tell apart, got 1"):
        zero_shot(ColourEncoder(), data)
