"""Probes, neighbours and tasks of 1000 examples: scikit-learn's answers on the same features."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from tests.train.evaluation.colours import (
    COLOURS,
    CollapsedEncoder,
    ColourEncoder,
    directions,
    picture,
    unit,
    write_folders,
)
from train.evaluation import probe as module
from train.evaluation.encoder import Floats
from train.evaluation.knn import knn
from train.evaluation.probe import linear_probe, vtab
from train.evaluation.splits import Features, open_splits

sklearn = pytest.importorskip("sklearn", reason="needs the extra train")
linear_model = pytest.importorskip("sklearn.linear_model", reason="needs the extra train")
neighbors = pytest.importorskip("sklearn.neighbors", reason="needs the extra train")


def clusters(number: int, seed: int, noise: float = 0.9) -> Features:
    labels = np.random.default_rng(seed).integers(0, 5, number)
    return Features(
        unit(directions(5, 12, seed=9)[labels] + noise * directions(number, 12, seed)), labels, {}
    )


def test_the_chosen_strength_is_the_best_of_a_plain_sweep() -> None:
    train, validation = clusters(300, 1), clusters(200, 2)

    chosen = module._best(train, validation)  # noqa: SLF001

    def right(strength: float) -> float:
        model = linear_model.LogisticRegression(C=10**strength, max_iter=2000)
        model.fit(train.vectors, train.labels)
        return float(model.score(validation.vectors, validation.labels))

    grid = {strength: right(strength) for strength in module.FIRST_SWEEP}
    assert right(chosen) >= max(grid.values())
    assert abs(chosen - max(grid, key=lambda one: grid[one])) <= 2


@pytest.mark.parametrize("peak", [-5.9, -0.3, 2.6, 4.1])
def test_the_search_closes_in_on_the_best_strength(
    peak: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def scores(
        _: Features, test: Features, strength: float, num_classes: int
    ) -> tuple[Floats, bool]:
        tried.append(strength)
        right = np.arange(len(test.labels)) < 1000 - 50 * abs(strength - peak)
        return np.eye(num_classes)[np.where(right, test.labels, 1 - test.labels)], True

    monkeypatch.setattr(module, "_scores", scores)
    data = Features(np.zeros((1000, 1)), np.arange(1000) % 2, {})

    chosen = module._best(data, data)  # noqa: SLF001

    assert chosen == pytest.approx(peak, abs=1 / 16 + 1e-9)
    assert len(tried) <= 7 + 2 * 4


def test_a_probe_learns_colours_and_says_by_what(tmp_path: Path) -> None:
    result = linear_probe(ColourEncoder(), open_splits(write_splits(tmp_path)))

    assert result.metrics["acc1"] == 1
    assert result.counts == {"train": 19, "validation": 5, "images": 18, "classes": 6}
    assert result.settings["features"] == "embeddings"
    assert result.dataset == tmp_path.name


def test_a_probe_sees_the_features_before_the_projection_where_there_are_some(
    tmp_path: Path,
) -> None:
    class Featured(CollapsedEncoder):
        def image_features(self, images: list[bytes]) -> Floats:
            return 7 * ColourEncoder().encode_images(images)

    data = open_splits(write_splits(tmp_path))

    assert linear_probe(Featured(), data).metrics["acc1"] == 1
    assert linear_probe(CollapsedEncoder(), data).metrics["acc1"] <= 1 / 3


def test_neighbours_are_those_of_scikit_learn(tmp_path: Path) -> None:
    class Noisy(ColourEncoder):
        def encode_images(self, images: list[bytes]) -> Floats:
            seeds = [sum(image) for image in images]
            noise = np.concatenate([directions(1, 3, seed) for seed in seeds])
            return unit(super().encode_images(images) + 1.2 * noise)

    data = open_splits(write_splits(tmp_path))

    metrics = knn(Noisy(), data).metrics

    train = [data.train, data.validation]
    vectors = np.concatenate([Noisy().encode_images(read(part.images)) for part in train])
    labels = np.concatenate([part.labels for part in train])
    model = neighbors.NearestNeighbors(n_neighbors=5, metric="cosine").fit(vectors)
    nearest = model.kneighbors(Noisy().encode_images(read(data.test.images)))[1]
    right = labels[nearest] == data.test.labels[:, None]
    assert metrics["knn_recall@1"] == pytest.approx(right[:, 0].mean())
    assert metrics["knn_recall@5"] == pytest.approx(right.any(axis=1).mean())
    assert metrics["knn_recall@1"] < 1


def test_collapsed_neighbours_are_right_by_chance(tmp_path: Path) -> None:
    data = open_splits(write_splits(tmp_path))

    assert knn(CollapsedEncoder(), data).metrics["knn_recall@1"] == pytest.approx(1 / 6)


def test_tasks_of_a_manifest_learn_from_so_many_examples_and_have_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXAMPLES", 20)
    rows = [
        {"image": picture(colour, noise=i), "label": label, "split": split, "task": task}
        for task, labels in {"names": list(COLOURS), "first": ["a"] * 3 + ["b"] * 3}.items()
        for split, each in (("train", 6), ("test", 2))
        for colour, label in zip(COLOURS, labels, strict=True)
        for i in range(each)
    ]
    for row in rows:
        row["group"] = "natural" if row["task"] == "names" else "structured"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tasks.parquet")

    first, names, means = vtab(ColourEncoder(), tmp_path / "tasks.parquet")

    assert (first.dataset, names.dataset) == ("first", "names")
    assert names.counts == {"train": 16, "validation": 4, "images": 12, "classes": 6}
    assert means.metrics["natural_acc1"] == names.metrics["acc1"]
    assert means.metrics["mean_acc1"] == (first.metrics["acc1"] + names.metrics["acc1"]) / 2


def test_a_test_class_that_was_never_shown_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", ["red", "blue"])
    write_folders(tmp_path / "test", ["red", "green"])

    with pytest.raises(RecipeError, match="must have classes of the training set, got 'green'"):
        open_splits(tmp_path)


def test_training_images_of_one_class_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", ["red"])
    write_folders(tmp_path / "test", ["red"])

    with pytest.raises(RecipeError, match="training images of two or more classes, got 1"):
        open_splits(tmp_path)


def test_splits_may_be_a_column_of_a_manifest(tmp_path: Path) -> None:
    rows = [
        {"image": picture(colour, noise=i), "label": colour, "split": split}
        for split, each in (("train", 4), ("val", 2), ("test", 3))
        for colour in COLOURS
        for i in range(each)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "all.parquet")

    result = linear_probe(ColourEncoder(), open_splits(tmp_path / "all.parquet"))

    assert result.counts == {"train": 24, "validation": 12, "images": 18, "classes": 6}
    assert (result.dataset, result.metrics["acc1"]) == ("all", 1)


def test_a_test_set_may_lack_classes(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", each=4)
    write_folders(tmp_path / "test", ["white", "red"], each=2, noise=3)

    assert linear_probe(ColourEncoder(), open_splits(tmp_path)).metrics["acc1"] == 1


def test_two_classes_are_told_apart(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", ["red", "blue"], each=4)
    write_folders(tmp_path / "test", ["red", "blue"], each=2, noise=3)

    assert linear_probe(ColourEncoder(), open_splits(tmp_path)).metrics["acc1"] == 1


def test_given_validation_images_are_not_taken_out_of_the_training_images(
    tmp_path: Path,
) -> None:
    write_splits(tmp_path)
    write_folders(tmp_path / "validation", each=2)

    splits = open_splits(tmp_path)

    assert (splits.held_out, len(splits.train.labels), len(splits.validation.labels)) == (
        False,
        24,
        12,
    )


def write_splits(folder: Path) -> Path:
    write_folders(folder / "train", each=4)
    write_folders(folder / "test", each=3, noise=3)
    return folder


def read(sources: object) -> list[bytes]:
    return [one.read() for one in list(sources)]  # type: ignore[call-overload]
