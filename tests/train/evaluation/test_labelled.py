"""Labelled images: folders, tars and manifests give the same; what is missing is counted."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from tests.train.evaluation.colours import ColourEncoder, picture, write_folders
from train.evaluation.labelled import Labelled, open_labelled
from train.evaluation.zero_shot import zero_shot

COLOURS = ["red", "blue", "red", "green"]


def test_folders_tars_and_manifests_give_the_same(tmp_path: Path) -> None:
    names = sorted(set(COLOURS))
    (tmp_path / "classnames.txt").write_text("\n".join(names), encoding="utf-8")
    by_number = [(picture(c), {"cls": str(names.index(c))}) for c in COLOURS]
    write_tar(tmp_path / "test" / "0.tar", by_number[:2])
    write_tar(tmp_path / "test" / "1.tar", by_number[2:])
    by_name = [(picture(c), {"json": json.dumps({"label": c})}) for c in COLOURS]
    write_tar(tmp_path / "named" / "0.tar", by_name)
    rows = {"image": [picture(c) for c in COLOURS], "label": COLOURS}
    pq.write_table(pa.table(rows), tmp_path / "bytes.parquet")
    places = write_folders(tmp_path / "folders", names, each=1)
    with (tmp_path / "paths.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["image", "label"], *([f"folders/{c}/0.png", c] for c in COLOURS)]
        )

    opened = [
        open_labelled(tmp_path / name) for name in ("test", "named", "bytes.parquet", "paths.csv")
    ]

    for data in opened:
        assert data.classes == ("blue", "green", "red")
        assert data.labels.tolist() == [2, 0, 2, 1]
        assert zero_shot(ColourEncoder(), data).metrics["acc1"] == 1
    assert open_labelled(places).classes == ("blue", "green", "red")


def test_numbers_that_no_file_names_are_names(tmp_path: Path) -> None:
    rows = {"image": [picture(c) for c in COLOURS], "label": [7, 10, 7, 3]}
    pq.write_table(pa.table(rows), tmp_path / "numbers.parquet")

    data = open_labelled(tmp_path / "numbers.parquet")

    assert data.classes == ("3", "7", "10")
    assert data.labels.tolist() == [1, 2, 1, 0]


def test_a_label_may_be_another_field_of_the_record_or_several(tmp_path: Path) -> None:
    records = [{"label": "x", "colour": c, "size": 3} for c in COLOURS] + [{"colour": "red"}]
    samples = [(picture(one["colour"]), {"json": json.dumps(one)}) for one in records]
    write_tar(tmp_path / "shades" / "0.tar", samples)

    colours = open_labelled(tmp_path / "shades", label="colour")
    both = open_labelled(tmp_path / "shades", label="size+colour")

    assert (colours.name, colours.classes) == ("shades-colour", ("blue", "green", "red"))
    assert colours.labels.tolist() == [2, 0, 2, 1, 2]
    assert both.classes == ("3 blue", "3 green", "3 red")
    assert both.faults == {"no_label": 1}


def test_images_of_the_dataset_library_are_read(tmp_path: Path) -> None:
    images = [{"bytes": picture(c), "path": None} for c in COLOURS]
    pq.write_table(pa.table({"image": images, "label": COLOURS}), tmp_path / "d.parquet")

    assert zero_shot(ColourEncoder(), open_labelled(tmp_path / "d.parquet")).metrics["acc1"] == 1


def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    samples: list[tuple[bytes | None, dict[str, str]]] = [
        (picture("red"), {"json": '{"label": "red"}'}),
        (picture("blue"), {"json": '{"label": "blue"}'}),
        (picture("red"), {}),
        (picture("red"), {"json": "no JSON"}),
        (None, {"json": '{"label": "red"}'}),
        (b"no image", {"json": '{"label": "red"}'}),
        (picture("red")[:-30], {"json": '{"label": "red"}'}),
    ]
    write_tar(tmp_path / "a.tar", samples)

    result = zero_shot(ColourEncoder(), open_labelled(tmp_path / "a.tar"))

    assert result.counts["images"] == 2
    assert result.faults == {"no_label": 2, "no_image": 1, "undecodable": 2}


def test_a_tar_that_ends_early_gives_its_good_samples(tmp_path: Path) -> None:
    labels = [(picture(c), {"json": json.dumps({"label": c})}) for c in COLOURS]
    write_tar(tmp_path / "a.tar", labels)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: 512 * 7])

    data = open_labelled(tmp_path / "a.tar")

    assert data.faults["damage"] == 1
    assert 1 <= len(data.labels) < 4


def test_an_empty_class_is_a_class_all_the_same(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, ["red", "blue"])
    (folder / "green").mkdir()

    data = open_labelled(folder)

    assert data.classes == ("blue", "green", "red")
    assert zero_shot(ColourEncoder(), data).metrics["mean_per_class_recall"] == 1


def test_classes_of_folders_may_be_named_by_a_file(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, ["blue", "red"])
    (folder / "blue").rename(folder / "n01")
    (folder / "red").rename(folder / "n02_hot")

    assert open_labelled(folder).classes == ("n01", "n02 hot")
    (folder / "classnames.txt").write_text("blue\nred\n", encoding="utf-8")
    assert open_labelled(folder).classes == ("blue", "red")


def test_templates_beside_the_data_are_used(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, ["blue", "red"])
    file = folder / "zeroshot_classification_templates.txt"
    file.write_text("a {c} thing\n", encoding="utf-8")

    assert zero_shot(ColourEncoder(), open_labelled(folder)).counts["templates"] == 1


def test_a_split_is_a_folder_or_a_column(tmp_path: Path) -> None:
    write_folders(tmp_path / "val", ["red", "blue"], each=1)
    rows = {"image": [picture(c) for c in COLOURS], "label": COLOURS}
    manifest = tmp_path / "m.parquet"
    pq.write_table(pa.table(rows | {"split": ["train", "val", "train", "test"]}), manifest)

    assert open_labelled(tmp_path, "validation").name.endswith("-val")
    some = open_labelled(manifest, "validation")
    assert (some.classes, some.labels.tolist()) == (("blue", "green", "red"), [0])
    with pytest.raises(RecipeError, match="must have a folder train, got val; add it"):
        open_labelled(tmp_path, "train")
    pq.write_table(pa.table(rows), manifest)
    with pytest.raises(RecipeError, match="whose split is train, got no column split"):
        open_labelled(manifest, "train")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "nowhere", "must be a folder, a tar or a manifest, got nothing"),
        (lambda p: p, "must hold a folder for each class, or tars, got none"),
        (lambda p: _made(p / "empty" / "red"), "must have images with labels, got none of them"),
        (lambda p: _text(p / "a.csv", "image,kind\n1,2\n"), "got no label among image, kind"),
        (lambda p: _text(p / "a.parquet", "no parquet"), "must be parquet or CSV, got"),
        (lambda p: _text(p / "a.tar", ""), "must be a tar, got"),
        (lambda p: _text(p / "a.tar", "no tar" * 500), "must have images with labels"),
    ],
)
def test_what_is_no_data_set_is_told_in_a_sentence(
    tmp_path: Path, make: Any, sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        open_labelled(make(tmp_path))


def test_too_few_class_names_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [(picture("red"), {"cls": "2"})])
    (tmp_path / "classnames.txt").write_text("red\nblue\n", encoding="utf-8")

    with pytest.raises(RecipeError, match="must name every class, got 2 names for labels up to 2"):
        open_labelled(tmp_path)


def test_webdataset_writes_what_is_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="a test-only dependency")
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as sink:
        for i, colour in enumerate(COLOURS):
            sink.write({"__key__": f"s{i}", "png": picture(colour), "cls": i % 2})

    data = open_labelled(tmp_path)

    assert data.labels.tolist() == [0, 1, 0, 1]
    assert isinstance(data, Labelled)
    assert np.issubdtype(data.labels.dtype, np.int64)


def write_tar(path: Path, samples: list[tuple[Any, dict[str, str]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, (image, texts) in enumerate(samples):
            members = {name: text.encode() for name, text in texts.items()}
            for name, data in ({"png": image} | members).items():
                if data is not None:
                    info = tarfile.TarInfo(f"{i:04d}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder.parent


def _text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
