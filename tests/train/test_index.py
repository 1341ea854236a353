"""Data: an index of what folders hold is made once, and anew of what has changed."""

import os
from pathlib import Path
from typing import Any

import pytest

from filters.rule import RecipeError
from tests.shards import write_parquet, write_tar
from tests.train.indexed import JPEG, PNG, opened, samples, tar_of, texts
from train.index import cores, open_data
from train.mixing import Captions


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


def test_an_index_is_made_once_and_anew_of_what_has_changed(tmp_path: Path) -> None:
    source = tar_of(tmp_path, ("a.png", PNG), ("a.txt", b"one"))
    write_tar(source / "1.tar", [("b.png", PNG), ("b.txt", b"two")])
    opened(source)
    first = stamps(tmp_path / "index")

    opened(source)
    again = stamps(tmp_path / "index")
    write_tar(source / "1.tar", [("b.png", PNG), ("b.txt", b"three")])
    found = texts(opened(source))
    changed = stamps(tmp_path / "index")

    assert again == first
    assert found == {"a": [["one"]], "b": [["three"]]}
    assert [name for name in first if first[name] != changed[name]] == [
        str(tmp_path / "index" / "0" / "1.parquet")
    ]


def test_processes_make_the_index_that_one_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tar_of(tmp_path, ("a.png", PNG), ("a.txt", b"one"))
    write_tar(source / "1.tar", [("b.png", PNG), ("b.txt", b"two")])
    alone = samples(opened(source))
    monkeypatch.setattr("train.index._ALONE_BYTES", 0)

    together = open_data([source], Captions(), tmp_path / "other", workers=2)

    assert samples(together) == alone


def test_every_rank_has_the_whole_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tar_of(tmp_path, ("a.png", PNG), ("a.txt", b"one"))
    write_tar(source / "1.tar", [("b.png", PNG), ("b.txt", b"two")])
    alone = opened(source)

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    second = open_data([source], Captions(), tmp_path / "other")
    assert samples(second) == samples(alone)
    assert second.digest == alone.digest
    assert cores() == max(1, len(os.sched_getaffinity(0)) // 2)


def test_an_image_file_beyond_all_bounds_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.places.MAX_IMAGE_BYTES", len(PNG))
    large = ("b.png", PNG + b"\0")
    source = tar_of(tmp_path, ("a.png", PNG), ("a.txt", b"one"), large, ("b.txt", b"two"))

    data = opened(source)

    assert texts(data) == {"a": [["one"]]}
    assert data.left_out == {"image_too_large": 1}


def test_sources_are_one_after_the_other(tmp_path: Path) -> None:
    first = tar_of(tmp_path / "x", ("a.png", PNG), ("a.txt", b"one"))
    second = tar_of(tmp_path / "y", ("b.png", PNG), ("b.txt", b"two"))

    data = open_data([first / "*.tar", second / "0.tar"], Captions(), tmp_path / "index")

    assert texts(data) == {"a": [["one"]], "b": [["two"]]}
    assert [unit.shard.name for unit in data.units] == ["0/0", "1/0"]


def refused(sources: list[Path], folder: Path, message: str, **weights: float) -> None:
    captions = Captions(weights=weights or {"chosen": 1.0})
    with pytest.raises(RecipeError, match=message):
        open_data(sources, captions, folder / "index", workers=1)


def test_data_that_cannot_be_learnt_from_are_refused(tmp_path: Path) -> None:
    source = tar_of(tmp_path, ("a.png", PNG), ("a.json", b"{}"))
    write_parquet(tmp_path / "urls" / "0.parquet", {"url": ["x"], "caption": ["y"]})
    write_parquet(tmp_path / "images" / "0.parquet", {"jpg": [JPEG], "caption": ["y"]})
    (tmp_path / "empty").mkdir()

    refused([], tmp_path, "data must name a folder or more, got none")
    refused([tmp_path / "nowhere"], tmp_path, "must exist, got nothing there")
    refused([tmp_path / "empty"], tmp_path, r"must hold .tar or .parquet files, got neither")
    refused([tmp_path / "urls"], tmp_path, "must hold images, got metadata alone")
    refused([source], tmp_path, "must hold pairs .* got none; left out: caption_missing 1")
    refused(
        [tmp_path / "images"],
        tmp_path,
        "captions.weights.alt must be a kind of caption that the data has, .* are jpg, caption",
        alt=1,
    )


def test_a_digest_is_of_the_samples_and_not_of_where_they_lie(tmp_path: Path) -> None:
    told: list[Any] = []
    for name, captions in (("x", b"one"), ("y", b"one")):
        source = tar_of(tmp_path / name, ("a.png", PNG), ("a.txt", captions))
        told.append(opened(source).digest)
    told.append(opened(tmp_path / "x" / "data", raw=1).digest)

    assert told[0] == told[1] != told[2]
