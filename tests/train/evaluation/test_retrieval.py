"""Retrieval: clip_benchmark's formula on untied data, chance if collapsed, Karpathy's JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from tests.train.evaluation.colours import (
    CollapsedEncoder,
    ColourEncoder,
    directions,
    picture,
    unit,
)
from tests.train.evaluation.test_labelled import write_tar
from train.evaluation import retrieval as module
from train.evaluation.retrieval import open_captioned, recalls, retrieval


def plain_recall(scores: Any, positive: Any, k: int) -> float:
    """As clip_benchmark has it: is one of the positives among the first k of a sort?"""
    hits = []
    for row, right in zip(scores, positive, strict=True):
        first = sorted(range(len(row)), key=lambda i: -row[i])[:k]
        hits.append(any(right[i] for i in first))
    return sum(hits) / len(hits)


def test_recalls_are_those_of_clip_benchmark() -> None:
    images = directions(30, 12)
    of = np.sort(np.r_[np.arange(30), np.random.default_rng(3).integers(0, 30, 70)])
    texts = unit(images[of] + 0.6 * directions(100, 12, seed=1))

    metrics, intervals = recalls(images, texts, of)

    positive = of[:, None] == np.arange(30)
    scores = texts @ images.T
    for k in (1, 5, 10):
        by_text, by_image = plain_recall(scores, positive, k), plain_recall(scores.T, positive.T, k)
        assert metrics[f"image_retrieval_recall@{k}"] == pytest.approx(by_text)
        assert metrics[f"text_retrieval_recall@{k}"] == pytest.approx(by_image)
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high


def test_a_collapsed_model_finds_by_chance(tmp_path: Path) -> None:
    json_file, images = write_karpathy(tmp_path, 40)

    metrics = retrieval(CollapsedEncoder(), open_captioned(json_file, images)).metrics

    assert metrics["image_retrieval_recall@1"] == pytest.approx(1 / 40)
    assert metrics["image_retrieval_recall@10"] == pytest.approx(10 / 40)
    assert metrics["text_retrieval_recall@1"] == pytest.approx(5 / 200)


def test_only_the_first_five_captions_of_the_test_split_count(tmp_path: Path) -> None:
    json_file, images = write_karpathy(tmp_path, 3)

    data = open_captioned(json_file, images)

    assert data.name == "small"
    assert data.of.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert "extra" not in data.texts


def test_an_image_that_cannot_be_read_goes_with_its_captions(tmp_path: Path) -> None:
    json_file, images = write_karpathy(tmp_path, 4)
    (images / "val2014" / "0.png").unlink()
    (images / "val2014" / "2.png").write_bytes(b"no image")

    result = retrieval(ColourEncoder(), open_captioned(json_file, images))

    assert result.counts == {"images": 2, "texts": 10, "distinct_texts": 10}
    assert result.faults == {"missing": 1, "undecodable": 1}
    assert result.metrics["image_retrieval_recall@1"] == 1


def test_folds_are_means_over_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD", 20)
    json_file, images = write_karpathy(tmp_path, 40)

    metrics = retrieval(CollapsedEncoder(), open_captioned(json_file, images)).metrics

    assert metrics["image_retrieval_recall@1_1k"] == pytest.approx(1 / 20)
    assert metrics["text_retrieval_recall@10_1k"] == pytest.approx(10 / 20, abs=0.11)


def test_shards_may_have_several_captions_an_image(tmp_path: Path) -> None:
    samples = [(picture(c), {"txt": f"a {c} square\n\n{c} paint\n"}) for c in ("red", "blue")]
    samples += [(picture("green"), {"txt": " \n"}), (None, {"txt": "a green square"})]
    write_tar(tmp_path / "test" / "0.tar", samples)

    data = open_captioned(tmp_path / "test")
    result = retrieval(ColourEncoder(), data)

    assert data.name == f"{tmp_path.name}-test"
    assert data.texts == ["a red square", "red paint", "a blue square", "blue paint"]
    assert result.faults == {"no_caption": 1, "no_image": 1}
    assert result.metrics["text_retrieval_recall@1"] == 1


@pytest.mark.parametrize("several", [True, False])
def test_a_manifest_may_hold_images_and_captions(tmp_path: Path, several: bool) -> None:
    rows = [
        {"image": picture(c), "caption": [f"a {c} square", c] if several else f"a {c} square"}
        for c in ("red", "blue")
    ]
    rows += [{"image": picture("green"), "caption": None}, {"image": None, "caption": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")

    result = retrieval(ColourEncoder(), open_captioned(tmp_path / "pairs.parquet"))

    assert result.counts["texts"] == (4 if several else 2)
    assert result.faults == {"no_caption": 1, "no_image": 1}
    assert result.metrics["image_retrieval_recall@1"] == 1


def test_shards_without_captions_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [(picture("red"), {"cls": "1"})])

    with pytest.raises(RecipeError, match="must have images with captions, got none"):
        open_captioned(tmp_path)
    with pytest.raises(RecipeError, match="must be Karpathy's JSON, a tar, a folder of tars"):
        open_captioned(tmp_path / "nowhere")


def test_the_folder_of_images_must_be_given(tmp_path: Path) -> None:
    json_file, _ = write_karpathy(tmp_path, 1)

    with pytest.raises(RecipeError, match="must come with the folder of its images"):
        open_captioned(json_file)


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"images": [{"split": "train"}]}'])
def test_another_json_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(RecipeError, match=r"must (be Karpathy's JSON|have images of the split)"):
        open_captioned(file, tmp_path)


def write_karpathy(folder: Path, number: int) -> tuple[Path, Path]:
    """Write images of alternating colours, six captions each, one image of another split."""
    colours = ("red", "green", "blue", "yellow")
    images = folder / "images" / "val2014"
    images.mkdir(parents=True)
    entries = []
    for i in range(number):
        colour = colours[i % 4]
        (images / f"{i}.png").write_bytes(picture(colour))
        sentences = [{"raw": f"a {colour} square, {j}"} for j in range(5)] + [{"raw": "extra"}]
        entries.append(
            {"filename": f"{i}.png", "filepath": "val2014", "split": "test", "sentences": sentences}
        )
    entries.append(entries[0] | {"split": "restval"})
    file = folder / "dataset_small.json"
    file.write_text(json.dumps({"images": entries}), encoding="utf-8")
    return file, folder / "images"
