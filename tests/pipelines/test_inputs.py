"""Inputs: what is found below a path, and one sentence for what cannot work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from pipelines.inputs import InputError, Shard, find_shards
from tests.shards import write_parquet, write_shard, write_tar

TEXT = {"caption": ["a", "b"]}


def found(source: Path | str, **columns: str) -> list[tuple[str, str, int | None]]:
    shards = find_shards(str(source), columns, Path("elsewhere"))[1]
    return [(shard.name, shard.kind, shard.rows) for shard in shards]


def test_shards_come_in_the_order_of_their_names_bytes(tmp_path: Path) -> None:
    for name in ("b", "a/0", "a.x", "a-b", "B", "\u00e9", "\U0001f600", "\uff21", "10", "9"):
        write_parquet(tmp_path / f"{name}.parquet", TEXT)

    assert [name for name, _, _ in found(tmp_path)] == [
        *("10", "9", "B", "a-b", "a.x", "a/0", "b", "\u00e9", "\uff21", "\U0001f600")
    ]


def test_a_tar_and_its_parquet_are_one_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000", [("0", b"i", "a"), ("1", None, "b")])
    write_tar(tmp_path / "deep" / "00001.tar", [("0.jpg", b"i")])
    write_parquet(tmp_path / "00002.parquet", {"key": ["0"], "caption": ["a"]})
    (tmp_path / "00000_stats.json").write_text("{}")

    assert found(tmp_path) == [
        ("00000", "webdataset", 2),
        ("00002", "webdataset", 1),
        ("deep/00001", "webdataset", None),
    ]


def test_hidden_files_and_the_output_are_no_input(tmp_path: Path) -> None:
    for name in ("0", ".1", "_2", ".git/3", "_work/4", "out/5", "out/deep/6", "outside/7"):
        write_parquet(tmp_path / f"{name}.parquet", TEXT)

    _, shards = find_shards(str(tmp_path), {}, tmp_path / "outside" / ".." / "out")

    assert [shard.name for shard in shards] == ["0", "outside/7"]


@pytest.mark.parametrize(
    ("source", "root", "names"),
    [
        ("a/0.parquet", "a", ["0"]),
        ("a", "a", ["0", "1"]),
        ("a/*.parquet", "a", ["0", "1"]),
        ("*/[01].parquet", "", ["a/0", "a/1", "b/0"]),
        ("**/*", "", ["a/0", "a/1", "b/0"]),
        ("?/0.*", "", ["a/0", "b/0"]),
    ],
)
def test_an_input_is_a_file_a_folder_or_a_glob(
    source: str, root: str, names: list[str], tmp_path: Path
) -> None:
    for name in ("a/0", "a/1", "b/0"):
        write_parquet(tmp_path / f"{name}.parquet", TEXT)

    where, shards = find_shards(str(tmp_path / source), {}, Path("elsewhere"))

    assert (where, [shard.name for shard in shards]) == (tmp_path / root, names)


@pytest.mark.parametrize("source", ["0.tar", "*.tar", "*", "?.parquet", ""])
def test_a_tar_brings_its_parquet(source: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "0", [("0", b"i", "a")])
    kind = ("0", "webdataset", 1) if source != "?.parquet" else ("0", "metadata", 1)

    assert found(tmp_path / source) == [kind]


def test_a_path_with_the_characters_of_a_glob_is_that_path(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a[1]*" / "0.parquet", TEXT)

    assert found(tmp_path / "a[1]*") == [("0", "metadata", 2)]
    assert found(tmp_path / "a[1]*" / "0.parquet") == [("0", "metadata", 2)]


BINARY = pa.array([b"i", None])
STRUCT = pa.array([{"bytes": b"i", "path": "0.jpg"}, None])


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"jpg": BINARY}, "jpg"),
        ({"img": BINARY.cast(pa.large_binary())}, "img"),
        ({"image": STRUCT}, "image"),
        ({"image": ["0.jpg", "1.jpg"], "bytes": BINARY}, "bytes"),
        ({"png": pa.array([[1], [2]]), "webp": BINARY, "jpeg": BINARY}, "jpeg"),
    ],
)
def test_a_column_of_bytes_makes_an_input_of_images(
    columns: dict[str, Any], image: str, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "0.parquet", TEXT | columns)

    [shard] = find_shards(str(tmp_path), {}, Path("elsewhere"))[1]

    assert (shard.kind, shard.columns["image"]) == ("images", image)


@pytest.mark.parametrize(
    "columns", [{}, {"image": ["a", "b"]}, {"jpg": pa.nulls(2)}, {"picture": BINARY}]
)
def test_an_input_without_a_column_of_bytes_has_no_images(
    columns: dict[str, Any], tmp_path: Path
) -> None:
    write_parquet(tmp_path / "0.parquet", TEXT | columns)

    [shard] = find_shards(str(tmp_path), {}, Path("elsewhere"))[1]

    assert (shard.kind, shard.columns) == ("metadata", {"caption": "caption"})


def test_the_recipe_may_name_the_column_of_images(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", TEXT | {"picture": BINARY, "jpg": BINARY})

    [shard] = find_shards(str(tmp_path), {"image": "picture"}, Path("elsewhere"))[1]

    assert (shard.kind, shard.columns["image"]) == ("images", "picture")


def test_where_one_shard_has_images_all_should(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", TEXT)
    write_parquet(tmp_path / "1.parquet", TEXT | {"jpg": BINARY})

    assert found(tmp_path) == [("0", "images", 2), ("1", "images", 2)]


@pytest.mark.parametrize("kind", ["tar", "parquet", "both"])
def test_a_shard_can_be_stored_and_restored(kind: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "a" / "0", [("0", b"i", "a")])
    if kind != "both":
        (tmp_path / "a" / ("0.parquet" if kind == "tar" else "0.tar")).unlink()
    root, [shard] = find_shards(str(tmp_path), {}, Path("elsewhere"))

    files = [
        {"path": path.name, "bytes": path.stat().st_size, "xxh3_128": f"of {path.name}"}
        for path in shard.files
    ]
    restored = Shard.restored(shard.stored(root) | {"rows": shard.rows, "files": files}, root)

    assert restored == replace(shard, stamps=(), digests=tuple(f["xxh3_128"] for f in files))
    assert restored.files == shard.files


def told(source: Path | str, output: Path = Path("elsewhere"), **columns: str) -> str:
    """Return the one sentence that says why an input cannot work."""
    with pytest.raises((InputError, RecipeError)) as error:
        find_shards(str(source), columns, output)
    return str(error.value)


def test_an_input_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    nothing = f"input {tmp_path}/no must exist, got nothing there; check the path"

    assert told(tmp_path / "no") == nothing
    assert told(tmp_path / "*.parquet") == nothing.replace("/no ", "/*.parquet ")
    assert told(tmp_path) == (
        f"input {tmp_path} must hold .tar or .parquet files, got neither; check the path"
    )


def test_an_input_must_lie_outside_the_output(tmp_path: Path) -> None:
    write_parquet(tmp_path / "crawl" / "0.parquet", TEXT)

    assert told(tmp_path / "crawl", tmp_path) == (
        f"input {tmp_path}/crawl must lie outside the output {tmp_path}, got it inside; choose "
        "another output"
    )


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>", b"PAR1" + b"\xff" * 50 + b"PAR1"])
def test_a_parquet_file_must_be_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(content)

    assert told(tmp_path).startswith(f"{tmp_path}/0.parquet must be a parquet file, got: ")
    assert "\n" not in told(tmp_path)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"title": ["a"]}, "0.parquet must have a column of captions, got title; name it: "),
        (
            {"caption": [1]},
            "column caption of {}/0.parquet must hold text, got int64; name another",
        ),
        (
            {"text": [["a"]]},
            "column text of {}/0.parquet must hold text, got list<element: string>",
        ),
    ],
)
def test_captions_must_be_text(columns: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", columns)

    assert sentence.format(tmp_path) in told(tmp_path)


@pytest.mark.parametrize("name", ["caption", "url", "jpg"])
def test_a_column_must_be_there_once(name: str, tmp_path: Path) -> None:
    table = pa.table([["a"], ["b"], ["c"], ["d"]], names=["caption", "url", "jpg", name])
    write_parquet(tmp_path / "0.parquet", table)

    assert told(tmp_path) == (
        f"{tmp_path}/0.parquet must have one column {name}, got 2; rename the others"
    )


def test_the_parquet_of_a_tar_must_have_keys(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("0.jpg", b"i")])
    write_parquet(tmp_path / "0.parquet", TEXT)

    assert told(tmp_path) == (
        f"{tmp_path}/0.parquet must have a column key, as the parquet of a tar shard, got caption; "
        "name it in the recipe's [columns] or move the tar away"
    )


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_chosen_column_must_have_one_of_our_names(kind: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "0", [("0", b"i", "a")])
    (tmp_path / f"0.{kind}").rename(tmp_path / f"1.{kind}")
    (tmp_path / ("0.parquet" if kind == "tar" else "0.tar")).unlink()

    assert told(tmp_path, captoin="caption").startswith(
        "columns.captoin must be one of our names, got an unknown one; the names are key, uid, "
    )


def test_a_chosen_column_must_be_there(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", {"alt": ["a"], "url": ["u"]})

    assert told(tmp_path, caption="title") == (
        f"columns.caption must name a column of the input, got 'title', which {tmp_path}/0.parquet "
        "lacks; its columns are alt, url"
    )


def test_file_names_must_be_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.parquet")).touch()

    assert told(tmp_path) == (
        f"input {tmp_path} must have file names in UTF-8, got '{tmp_path}/\\udcff'; rename that "
        "file"
    )


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up what root may do, for a while."""
    user = os.geteuid()
    if user == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if user == 0:
            os.setresuid(0, 0, 0)


@pytest.mark.parametrize("name", ["deep", "0.tar", "0.parquet"])
def test_everything_must_be_readable(name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        write_shard(path / "0", [("0", b"i", "a")])
        (path / "deep").mkdir()
        (path / name).chmod(0)

        with as_nobody():
            sentence = told(folder)

    assert (str(path / name) in sentence, "ermission denied" in sentence) == (True, True)


def test_linked_folders_are_searched_and_a_circle_ends(tmp_path: Path) -> None:
    crawl, elsewhere = tmp_path / "crawl", tmp_path / "elsewhere"
    crawl.mkdir()
    elsewhere.mkdir()
    pq.write_table(pa.table({"caption": ["a dog"]}), elsewhere / "00000.parquet")
    (crawl / "part").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(crawl)

    _, shards = find_shards(str(crawl), {}, tmp_path / "out")

    assert [shard.name for shard in shards] == ["part/00000"]
