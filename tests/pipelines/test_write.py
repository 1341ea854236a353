"""Materialised shards: the kept pairs in img2dataset's layout, image bytes untouched."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from tests.outputs import manifest_of, rows_of
from tests.shards import picture, write_parquet, write_tar

PNG, JPEG, WEBP = picture(300, 200), picture(320, 240, "JPEG"), picture(240, 320, "WEBP")
EMOJI = "a \U0001f468\u200d\U0001f469\u200d\U0001f467 family \u2764\ufe0f caf\u00e9"
UID = "0123456789abcdef0123456789abcdef"
STATS = {"failed_to_download": 0, "failed_to_resize": 0, "duration": 0.0, "start_time": 0.0}


def run(source: Path, output: Path, *changes: str) -> Path:
    recipe = output.with_name("bare.toml")
    recipe.write_text('name = "bare"\nmaterialise = true\nrules.word_count.min_inclusive = 2\n')
    paths = ["--input", str(source), "--output", str(output), "--recipe", str(recipe)]
    changed = [part for change in changes for part in ("--set", change)]
    assert main(["filter", *paths, "--workers", "1", *changed]) == 0
    return output


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        found = []
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            assert (member.mode, member.mtime, member.uname) == (0o444, 0, "bigdata")
            found.append((member.name, content.read()))
        return found


def contents(path: Path, ending: str) -> dict[str, Any]:
    """Return the members with an extension, by key."""
    pairs = [(name.rsplit(".", 1), data) for name, data in members(path)]
    return {key: data for (key, extension), data in pairs if extension == ending}


@pytest.fixture(scope="module")
def from_tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run over two tars, of which the second has nothing to keep."""
    folder = tmp_path_factory.mktemp("tars")
    write_tar(
        folder / "in" / "00000.tar",
        [
            ("000000002.jpg", PNG),  # its name lies
            ("000000002.txt", EMOJI.encode()),
            ("000000000.jpg", JPEG),
            ("000000000.txt", b"a red\nshoe"),
            ("000000001.jpg", JPEG),
            ("000000001.txt", b"short"),
            ("000000000.jpg", WEBP),  # a second one of this key
            ("000000000.txt", b"a blue shoe"),
        ],
    )
    write_parquet(
        folder / "in" / "00000.parquet",
        {
            "key": ["000000000", "000000001", "000000002", "000000000"],
            "url": ["https://e.example/0", None, "https://e.example/2", "https://e.example/3"],
            "caption": ["a red\nshoe", "short", EMOJI, "a blue shoe"],
            "uid": [None, None, UID, None],
            "label": [7, 8, None, 9],
        },
    )
    write_tar(folder / "in" / "d" / "00001.tar", [("1.jpg", b"broken"), ("1.txt", b"a b c")])
    return run(folder / "in", folder / "out")


def test_a_tar_has_the_kept_pairs_in_order_with_their_bytes(from_tars: Path) -> None:
    shard = from_tars / "shards" / "00000.tar"

    assert [name for name, _ in members(shard)] == [
        "000000000.jpg",
        "000000000.json",
        "000000000.txt",
        "000000002.json",
        "000000002.png",
        "000000002.txt",
    ]
    assert contents(shard, "jpg") == {"000000000": JPEG}
    assert contents(shard, "png") == {"000000002": PNG}
    captions = {"000000000": b"a red\nshoe", "000000002": EMOJI.encode()}
    assert contents(shard, "txt") == captions


def test_the_json_has_the_inputs_fields_and_the_measured_ones(from_tars: Path) -> None:
    records = contents(from_tars / "shards" / "00000.tar", "json")

    columns = {row["key"]: row for row in rows_of(from_tars, "columns") if row["error"] is None}
    assert json.loads(records["000000002"]) == {
        "uid": UID,
        "url": "https://e.example/2",
        "caption": EMOJI,
        "key": "000000002",
        "width": 300,
        "height": 200,
        "sha256": columns["000000002"]["sha256"],
        "label": None,
    }
    assert json.loads(records["000000000"])["label"] == 7


def test_the_parquet_has_a_row_per_pair(from_tars: Path) -> None:
    stored = pq.read_table(from_tars / "shards" / "00000.parquet").to_pylist()

    records = contents(from_tars / "shards" / "00000.tar", "json")
    assert stored == [json.loads(record) for record in records.values()]


def test_sizes_and_statistics_tell_the_number_of_pairs(from_tars: Path) -> None:
    shards = from_tars / "shards"

    assert json.loads((shards / "sizes.json").read_text()) == {"00000.tar": 2, "d/00001.tar": 0}
    assert json.loads((shards / "00000_stats.json").read_text()) == STATS | {
        "count": 2,
        "successes": 2,
        "end_time": 0.0,
        "status_dict": {"success": 2},
    }


def test_a_shard_without_kept_pairs_is_an_empty_tar(from_tars: Path) -> None:
    shards = from_tars / "shards" / "d"

    assert members(shards / "00001.tar") == []
    assert pq.read_table(shards / "00001.parquet").num_rows == 0
    assert json.loads((shards / "00001_stats.json").read_text())["count"] == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset closes no file
def test_webdataset_reads_the_pairs(from_tars: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    url = str(from_tars / "shards" / "00000.tar")

    dataset = webdataset.WebDataset(url, shardshuffle=False).decode()

    found = [(one["__key__"], one["txt"], one["json"]["label"]) for one in dataset]
    assert found == [("000000000", "a red\nshoe", 7), ("000000002", EMOJI, None)]


def test_materialised_shards_are_an_input_that_is_kept_whole(
    from_tars: Path, tmp_path: Path
) -> None:
    again = run(from_tars / "shards", tmp_path / "out")

    assert manifest_of(again)["rows_in"] == manifest_of(again)["kept"] == 2
    for name in ("00000.tar", "00000.parquet", "00000_stats.json", "sizes.json"):
        new, old = (output / "shards" / name for output in (again, from_tars))
        assert new.read_bytes() == old.read_bytes()


@pytest.mark.parametrize("kind", ["binary", "struct"])
def test_pairs_of_an_image_parquet_become_tars(kind: str, tmp_path: Path) -> None:
    images = [JPEG, WEBP, None, picture(9, 9, "BMP"), picture(9, 9, "GIF")]
    column = pa.array(images, pa.binary())
    if kind == "struct":
        column = pa.StructArray.from_arrays([column, pa.array(["x"] * 5)], ["bytes", "path"])
    columns = {
        "image": column,
        "TEXT": [EMOJI, "a b c", "a b c", "a b c", "short"],
        "key": ["photo.jpg", "d/a-1", "c", None, "e"],
        "licence": list("vwxyz"),
    }
    write_parquet(tmp_path / "in" / "part-0.parquet", columns)

    output = run(tmp_path / "in", tmp_path / "out")

    shard = output / "shards" / "part-0.tar"
    assert contents(shard, "jpg") == {"row-000000000": JPEG}  # a dot would end the key
    assert contents(shard, "webp") == {"d/a-1": WEBP}
    assert contents(shard, "bmp") == {"000000003": images[3]}
    stored = pq.read_table(shard.with_suffix(".parquet")).to_pylist()
    assert [(row["key"], row["caption"], row["licence"]) for row in stored] == [
        ("row-000000000", EMOJI, "v"),
        ("d/a-1", "a b c", "w"),
        ("000000003", "a b c", "y"),
    ]
    assert [row["key"] for row in rows_of(output, "decisions")] == [
        "photo.jpg",
        "d/a-1",
        "c",
        "000000003",
        "e",
    ]


def test_without_materialise_there_are_no_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "0.tar", [("1.jpg", JPEG), ("1.txt", b"a b c")])

    output = run(tmp_path / "in", tmp_path / "out", "materialise=false")

    assert manifest_of(output)["kept"] == 1
    assert not (output / "shards").exists()
