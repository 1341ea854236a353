"""Crisscrossed Captions: scipy's Spearman, positives of both sources, what is not there."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from filters.rule import RecipeError
from tests.train.evaluation.colours import (
    COLOURS,
    CollapsedEncoder,
    ColourEncoder,
    directions,
    picture,
)
from train.evaluation.cxc import Annotated, Ratings, cross_retrieval, cxc, open_cxc, similarity
from train.evaluation.spearman import sampled_spearman, spearman

NAMES = tuple(COLOURS)


def test_the_correlation_is_that_of_scipy_ties_included() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, (2, 200)).astype(float)
    second += first

    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_what_is_constant_correlates_with_nothing() -> None:
    assert spearman(np.ones(5), np.arange(5.0)) == 0


def test_samples_of_one_pair_a_query_are_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(1)
    queries = random.integers(0, 60, 300)
    scores = random.uniform(0, 5, 300)
    cosines = scores + random.standard_normal(300)

    mean, deviation = sampled_spearman(queries, cosines, scores, samples=400)

    found = []
    for _ in range(400):
        half = random.choice(np.unique(queries), len(np.unique(queries)) // 2, replace=False)
        rows = [random.choice(np.flatnonzero(queries == query)) for query in half]
        found.append(spearmanr(cosines[rows], scores[rows]).statistic)
    error = np.std(found) / 400**0.5
    assert mean == pytest.approx(np.mean(found), abs=5 * error)
    assert deviation == pytest.approx(np.std(found), rel=0.15)


@pytest.mark.parametrize("seed", range(8))
def test_pairs_that_people_called_positive_are_right_beside_those_of_coco(seed: int) -> None:
    images, texts = directions(4, 5, seed=seed), directions(8, 5, seed=seed + 100)
    of = np.repeat(np.arange(4), 2)
    rated = {
        "sts": Ratings(np.array([0, 2]), np.array([6, 7]), np.array([3.0, 2.9])),
        "sis": Ratings(np.array([0, 1]), np.array([3, 2]), np.array([2.5, 2.4])),
        "sits": Ratings(np.array([0, 1]), np.array([3, 2]), np.array([3.0, 2.99])),
    }
    data = Annotated([""] * 4, [""] * 8, of, rated, 0)

    figures = cross_retrieval(data, images, texts)

    right = {
        "image_retrieval": (texts, images, {(i, i // 2) for i in range(8)} | {(0, 3)}),
        "text_retrieval": (images, texts, {(i // 2, i) for i in range(8)} | {(3, 0)}),
        "text_text_retrieval": (
            texts,
            texts,
            {(i, i ^ 1) for i in range(8)} | {(0, 6), (6, 0)},
        ),
        "image_image_retrieval": (images, images, {(0, 3), (3, 0)}),
    }
    for name, (queries, items, pairs) in right.items():
        hits = []
        for query in sorted({query for query, _ in pairs}):
            order = np.argsort(-(items @ queries[query]))
            nearest = next(i for i in order if queries is not items or i != query)
            hits.append((query, nearest) in pairs)
        assert figures[f"{name}_recall@1"] == pytest.approx(np.mean(hits)), name


def test_the_queries_of_sits_are_images() -> None:
    images, texts = directions(3, 5), directions(30, 5, seed=1)
    pairs = [(text, image) for text in range(30) for image in range(3)]
    first, second = np.array(pairs).T
    scores = np.random.default_rng(0).uniform(0, 5, 90)
    ratings = Ratings(first, second, scores)
    same = Ratings(np.array([0, 1]), np.array([1, 2]), np.array([1.0, 2.0]))
    data = Annotated([""] * 3, [""] * 30, first, {"sts": same, "sis": same, "sits": ratings}, 0)

    figures = similarity(data, images, texts)

    assert figures["sits_spearman"] == 0  # half of three images is one pair, which tells nothing
    assert figures["sits_spearman_sd"] == 0


def test_a_model_that_sees_what_people_see_correlates(tmp_path: Path) -> None:
    folder, images = write_cxc(tmp_path)

    similarity, found = cxc(ColourEncoder(), folder, images)

    assert similarity.metrics["sits_spearman"] > 0.6
    assert similarity.metrics["sis_spearman"] > 0.6
    assert similarity.metrics["sis_spearman_sd"] > 0
    assert found.metrics["text_text_retrieval_recall@1"] == 1


def test_a_collapsed_model_neither_correlates_nor_finds(tmp_path: Path) -> None:
    folder, images = write_cxc(tmp_path)

    similarity, found = cxc(CollapsedEncoder(), folder, images)

    assert similarity.metrics["mean_spearman"] == 0
    assert found.metrics["image_image_retrieval_recall@1"] == pytest.approx(
        12 / 6 / 5  # of six images, positive pairs both ways, and five others of each
    )


def test_an_image_that_is_missing_takes_its_pairs_along(tmp_path: Path) -> None:
    folder, images = write_cxc(tmp_path)
    (images / "0.png").unlink()

    similarity, _ = cxc(ColourEncoder(), folder, images)

    thirty = range(30)
    left = [(a, b) for a in thirty for b in thirty if 0 not in (a // 5, b // 5)]
    assert similarity.counts == {
        "images": 5,
        "texts": 25,
        "sts_pairs": sum(a // 5 != b // 5 and (a + b) % 3 == 0 for a, b in left),
        "sis_pairs": 5 * 4,
        "sits_pairs": 25 * 4,
    }
    assert similarity.faults["missing"] == 1


def test_ratings_of_other_images_are_refused(tmp_path: Path) -> None:
    folder, _ = write_cxc(tmp_path)
    (folder / "sis_test.csv").write_text("a,b,agg_score\nx.png,y.png,1\n", encoding="utf-8")

    with pytest.raises(RecipeError, match="must be about images of dataset_coco"):
        open_cxc(folder)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "a,b,agg_score\n0.png,1.png,high\n"])
def test_another_csv_is_refused(tmp_path: Path, text: str) -> None:
    folder, _ = write_cxc(tmp_path)
    (folder / "sis_test.csv").write_text(text, encoding="utf-8")

    with pytest.raises(RecipeError, match="sis_test"):
        open_cxc(folder)


def write_cxc(folder: Path) -> tuple[Path, Path]:
    """Write an image of each colour, five captions each, and scores: how alike the colours are."""
    images = folder / "images"
    images.mkdir()
    entries = []
    for i, name in enumerate(NAMES):
        (images / f"{i}.png").write_bytes(picture(name))
        sentences = [{"raw": f"a {name} square {j}", "sentid": 5 * i + j} for j in range(5)]
        entries.append({"filename": f"{i}.png", "split": "test", "sentences": sentences})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}), encoding="utf-8")
    six, thirty = range(6), range(30)
    caption, image = "COCO_val2014:sentid:{}", "{}.png"
    pairs = [(a, b) for a in six for b in six if a != b]
    write(folder / "sis_test.csv", [(image.format(a), image.format(b), a, b) for a, b in pairs])
    write(
        folder / "sits_test.csv",
        [
            (caption.format(a), image.format(b), a // 5, b)
            for a in thirty
            for b in six
            if a // 5 != b
        ],
    )
    write(
        folder / "sts_test.csv",
        [
            (caption.format(a), caption.format(b), a // 5, b // 5)
            for a in thirty
            for b in thirty
            if a // 5 != b // 5 and (a + b) % 3 == 0
        ],
    )
    return folder, images


def write(path: Path, rows: list[tuple[str, str, int, int]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "agg_score", "sampling_method"])
        for first, second, a, b in rows:
            apart = np.abs(np.subtract(COLOURS[NAMES[a]], COLOURS[NAMES[b]])).sum()
            writer.writerow([first, second, 5 - apart / 153, "made"])
