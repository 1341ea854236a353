"""Indexes of test sets: built, merged, opened and refused."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from filters.recipe import Recipe, TestSets
from filters.rule import RecipeError
from pipelines.commands import main
from pipelines.hashes import hashes, packed, shrink
from pipelines.index import open_index
from pipelines.test_sets import test_distances as distances_to_test_images
from tests.reading import hashed
from tests.shards import photo, picture, write_parquet, write_shard


def write_images(folder: Path, seeds: range) -> Path:
    folder.mkdir(parents=True)
    for seed in seeds:
        (folder / f"{seed}.jpg").write_bytes(photo(seed))
    return folder


def build(source: Path, output: Path, *options: str) -> int:
    command = ["index", "--images", str(source), "--out", str(output), "--workers", "1", *options]
    return main(command)


def mirrored(image: bytes) -> bytes:
    file = io.BytesIO()
    ImageOps.mirror(Image.open(io.BytesIO(image))).save(file, "JPEG", quality=80)
    return file.getvalue()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an index of ten photographs and a flat image; not to be changed."""
    folder = tmp_path_factory.mktemp("index")
    write_images(folder / "val", range(10))
    (folder / "val" / "sub").mkdir()
    (folder / "val" / "sub" / "flat.png").write_bytes(picture(300, 200))
    (folder / "val" / "labels.txt").write_text("no image")
    assert build(folder / "val", folder / "index") == 0
    return folder / "index"


def recipe(*indexes: Path) -> Recipe:
    return Recipe(name="test", test_sets=TestSets(indexes=tuple(map(str, indexes))))


def test_an_index_tells_what_is_in_it(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = index.parent / "again"

    assert build(index.parent / "val", again, "--name", "val") == 0

    about = json.loads((index / "index.json").read_text())
    assert about["test_sets"] == [
        {"name": "val", "source": str(index.parent / "val"), "images": 11, "skipped": []}
    ]
    assert (about["images"], about["flat"], about["dihedral"]) == (11, 1, True)
    entries = open_index(index).entries
    names = entries["name"].to_pylist()
    assert sorted(names) == sorted([*(f"{n}.jpg" for n in range(10)), "sub/flat.png"])
    digests = dict(zip(names, entries["sha256"].to_pylist(), strict=True))
    assert digests["3.jpg"] == hashlib.sha256(photo(3)).hexdigest()
    assert capsys.readouterr().out == (
        f"11 test images of val in {again}\n"
        "1 of them are too flat for hashes (PDQ quality below 50): only the same file will match\n"
    )


def test_the_same_images_give_the_same_bytes(index: Path) -> None:
    again = index.parent / "same"
    assert build(index.parent / "val", again, "--name", "val") == 0

    for path in sorted(index.rglob("*.*")):
        assert path.read_bytes() == (again / path.relative_to(index)).read_bytes(), path.name


def test_copies_are_found_and_others_are_not(index: Path) -> None:
    small = io.BytesIO()
    Image.open(io.BytesIO(photo(2))).resize((200, 150)).save(small, "JPEG", quality=60)
    images = [photo(1), small.getvalue(), mirrored(photo(3)), photo(99), picture(300, 200)]
    batch = hashed([*images, picture(300, 201)])

    found = distances_to_test_images(recipe(index), batch)

    names = ["val/1.jpg", "val/2.jpg", "val/3.jpg", None, "val/sub/flat.png", None]
    for kind, radius in (("phash", 8), ("pdq", 31)):
        assert found[f"{kind}_nearest"].to_pylist() == names
        first, near, flipped, far, same, flat = found[f"{kind}_distance"].to_pylist()
        assert (first, same, far, flat) == (0, 0, radius + 1, None)
        assert max(near, flipped) <= radius


def test_upright_indexes_do_not_find_flips(index: Path) -> None:
    upright = index.parent / "upright"
    assert build(index.parent / "val", upright, "--upright-only") == 0

    found = distances_to_test_images(recipe(upright), hashed([photo(1), mirrored(photo(1))]))

    assert found["pdq_distance"].to_pylist() == [0, 32]


def test_of_several_indexes_the_nearest_image_counts(tmp_path: Path, index: Path) -> None:
    write_images(tmp_path / "others", range(20, 25))
    assert build(tmp_path / "others", tmp_path / "b") == 0
    merged = tmp_path / "merged"
    assert main(["index", "--merge", str(index), str(tmp_path / "b"), "--out", str(merged)]) == 0

    batch = hashed([photo(22), photo(2), photo(99), picture(300, 200)])
    apart = distances_to_test_images(recipe(index, tmp_path / "b"), batch)
    together = distances_to_test_images(recipe(merged), batch)

    assert apart == together
    assert apart["pdq_nearest"].to_pylist() == [
        "others/22.jpg",
        "val/2.jpg",
        None,
        "val/sub/flat.png",
    ]
    assert json.loads((merged / "index.json").read_text())["images"] == 16


def test_files_with_a_parquet_beside_them_are_image_files(tmp_path: Path) -> None:
    """So img2dataset writes them."""
    write_images(tmp_path / "in" / "00000", range(3))
    write_parquet(tmp_path / "in" / "00000.parquet", {"url": ["u"], "key": ["0"]})

    assert build(tmp_path / "in", tmp_path / "index") == 0

    names = open_index(tmp_path / "index").entries["name"].to_pylist()
    assert names == ["00000/0.jpg", "00000/1.jpg", "00000/2.jpg"]


def test_shards_are_test_sets_too(tmp_path: Path) -> None:
    write_shard(tmp_path / "tars" / "0", [("a", photo(1), "one"), ("b", photo(2), "two")])
    write_parquet(tmp_path / "rows" / "0.parquet", {"image": [photo(3), photo(4)], "label": [0, 1]})

    assert build(tmp_path / "tars", tmp_path / "a") == 0
    assert build(tmp_path / "rows", tmp_path / "b") == 0

    assert open_index(tmp_path / "a").names(np.array([0, 1])).to_pylist() == [
        "tars/0/a",
        "tars/0/b",
    ]
    assert len(open_index(tmp_path / "b").entries) == 2
    grids = shrink(photo(4), 10**8, exact=True)
    assert grids is not None
    found = open_index(tmp_path / "b").nearest("pdq", packed([hashes(grids).pdq], 256), 31)
    assert (found.at.tolist(), found.distance.tolist()) == ([1], [0])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


def test_a_test_image_that_cannot_be_decoded_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "val", range(3))
    (folder / "bad.jpg").write_bytes(photo(5)[:2000])
    (folder / "empty.png").write_bytes(b"")

    error = refused(
        capsys, "index", "--images", folder, "--out", tmp_path / "index", "--workers", 1
    )
    skipped = build(folder, tmp_path / "index", "--skip-bad")

    assert error == (
        "altmill: test images must be decodable, got 2 that are not: bad.jpg, empty.png; repair "
        "them, or leave them out with --skip-bad"
    )
    assert skipped == 0
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    assert about["test_sets"][0]["skipped"] == ["bad.jpg", "empty.png"]
    assert about["images"] == 3


def test_what_cannot_be_an_index_is_refused(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"x")
    write_parquet(tmp_path / "urls" / "0.parquet", {"url": ["u"], "caption": ["c"]})
    write_shard(tmp_path / "both" / "0", [("a", photo(1), "one")])
    (tmp_path / "both" / "1.JPEG").write_bytes(photo(2))
    out = ("--out", tmp_path / "new", "--workers", 1)

    for options, sentence in [
        (("--images", tmp_path / "empty"), "must hold .tar or .parquet files, got neither"),
        (("--images", tmp_path / "texts"), "must hold image files, .tar or .parquet files"),
        (("--images", tmp_path / "none"), "must exist, got nothing there"),
        (("--images", tmp_path / "urls"), "must hold image bytes, got none in 0"),
        (("--images", tmp_path / "both"), "must hold image files or shards, got both"),
        (("--images", tmp_path / "bad", "--skip-bad"), "must hold an image, got none"),
        (
            ("--merge", index, index),
            "must hold each test set once, got val, val; name each once",
        ),
        (("--merge", tmp_path / "empty"), "must be a folder that the job index wrote"),
    ]:
        assert sentence in refused(capsys, "index", *options, *out)
        assert not (tmp_path / "new").exists()
    again = refused(capsys, "index", "--images", index.parent / "val", "--out", index)
    assert "must be a new or an empty folder" in again


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 9}, "must have format 1 and hashes of version 1, got 9 and 1; build it again"),
        ({"hashes": 0}, "must have format 1 and hashes of version 1, got 1 and 0; build it again"),
    ],
)
def test_indexes_of_other_versions_are_refused(
    change: dict[str, int], sentence: str, index: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(index, other)
    about = json.loads((other / "index.json").read_text())
    (other / "index.json").write_text(json.dumps(about | change))

    with pytest.raises(RecipeError, match=sentence):
        open_index(other)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "null"])
def test_what_is_no_index_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)

    with pytest.raises(RecipeError, match="must be a folder that the job index wrote"):
        open_index(tmp_path)
