"""Data: what a folder holds is found as others find it, and its index is made once."""

import io
import json
import logging
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from tests.shards import SHARED_DATA, picture, write_parquet, write_tar
from tests.train.indexed import samples, texts
from train.index import Data, cores, open_data
from train.mixing import Captions
from train.places import MAX_CHARS

PNG, JPEG = picture(24, 24), picture(24, 24, "JPEG")

UNRAISABLE = "ignore::pytest.PytestUnraisableExceptionWarning"


def opened(source: Path, *, pairs: str = "chosen", **weights: float) -> Data:
    captions = Captions(pairs=pairs, weights=weights or {"chosen": 1.0})
    return open_data([source], captions, source.parent / "index", workers=1)


def tar_of(folder: Path, *members: tuple[str, bytes]) -> Path:
    write_tar(folder / "data" / "0.tar", members)
    return folder / "data"


# -------------------------------------------------------------------------------------------- tars


@pytest.mark.filterwarnings("ignore::ResourceWarning", UNRAISABLE)  # webdataset closes no file
def test_a_tar_is_read_as_webdataset_reads_it(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    source = tar_of(
        tmp_path,
        ("a/000.jpg", JPEG),
        ("a/000.txt", b"one"),
        ("a/000.json", b'{"caption": "uno"}'),
        ("b.c/001.png", PNG),
        ("b.c/001.txt", "zwei \u00fc".encode()),
        ("002.JPG", JPEG),
        ("002.TXT", b"three"),
    )
    url = str(source / "0.tar")
    theirs = wds.WebDataset(url, shardshuffle=False, empty_check=False)
    expected = {
        one["__key__"]: (one.get("jpg", one.get("png")), [[one["txt"].decode()]]) for one in theirs
    }

    assert samples(opened(source)) == expected


@pytest.mark.filterwarnings("ignore::ResourceWarning", UNRAISABLE)
def test_real_shards_are_read_as_webdataset_reads_them(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    tar = SHARED_DATA / "clothing" / "test" / "00000.tar"
    if not tar.is_file():
        pytest.skip("needs ../shared/data/clothing")
    theirs = wds.WebDataset(str(tar), shardshuffle=False, empty_check=False)
    expected = {one["__key__"]: (one["jpg"], [[one["txt"].decode()]]) for one in theirs}

    data = open_data([tar], Captions(), tmp_path, workers=1)

    assert len(expected) == 372
    assert samples(data) == expected


def test_captions_are_found_wherever_a_tar_has_them(tmp_path: Path) -> None:
    source = tar_of(
        tmp_path,
        ("txt.png", PNG),
        ("txt.txt", b"from the txt"),
        ("member.webp", PNG),
        ("member.caption", b"from the member"),
        ("json.jpeg", JPEG),
        ("json.json", b'{"TEXT": "from the json"}'),
    )

    assert texts(opened(source)) == {
        "txt": [["from the txt"]],
        "member": [["from the member"]],
        "json": [["from the json"]],
    }


def test_any_field_can_be_a_caption(tmp_path: Path) -> None:
    record = {"title": "a title", "alts": ["one", " ", "two"], "number": 3, "none": None}
    source = tar_of(
        tmp_path,
        ("a.png", PNG),
        ("a.txt", b"a caption"),
        ("a.alt.txt", b"an alt"),
        ("a.json", json.dumps(record).encode()),
    )

    found = texts(opened(source, chosen=1, title=1, alts=1, number=1, none=1, **{"alt.txt": 1}))

    assert found == {"a": [["an alt"], ["one", "two"], ["a caption"], [], [], ["a title"]]}


def test_what_recaptioning_wrote_into_shards_is_told_apart(tmp_path: Path) -> None:
    both = {"org_caption": "the raw one", "re_caption": "the new one"}
    lost = {"org_caption": None, "re_caption": "the new one"}
    source = tar_of(
        tmp_path,
        *(("a.png", PNG), ("a.txt", b"the new one"), ("a.json", json.dumps(both).encode())),
        *(("b.png", PNG), ("b.txt", b"the new one"), ("b.json", json.dumps(lost).encode())),
        *(("c.png", PNG), ("c.txt", b"the only one")),
    )

    assert texts(opened(source, chosen=1, raw=1, synthetic=1)) == {
        "a": [["the new one"], ["the raw one"], ["the new one"]],
        "b": [["the new one"], [], ["the new one"]],
        "c": [["the only one"], ["the only one"], []],
    }


def test_captions_are_cleaned(tmp_path: Path) -> None:
    source = tar_of(
        tmp_path,
        *(("blank.png", PNG), ("blank.txt", " \n\u3000".encode())),
        *(("none.png", PNG), ("none.json", b"[1, 2]")),
        *(("deep.png", PNG), ("deep.json", b"[" * 100_000)),
        *(("long.png", PNG), ("long.txt", ("\u00fc" * 10**6).encode())),
        *(("latin.png", PNG), ("latin.txt", b"  caf\xe9 \n")),
        *(("half.png", PNG), ("half.json", b'{"caption": "a \\ud800 b"}')),
        *(("empty.png", b""), ("empty.txt", b"no image")),
        *(("alone.txt", b"no image"),),
    )

    data = opened(source)

    assert texts(data) == {
        "long": [["\u00fc" * MAX_CHARS]],
        "latin": [["caf\ufffd"]],
        "half": [["a ? b"]],
    }
    assert data.left_out == {"caption_missing": 3, "image_missing": 2}


def test_a_hostile_tar_gives_its_good_samples_and_touches_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "data" / "0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, content in (("../../up.png", PNG), ("../../up.txt", b"up")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../up.png")):
            link = tarfile.TarInfo(f"link{kind.decode()}.png")
            link.type, link.linkname = kind, target
            tar.addfile(link)
        huge = tarfile.TarInfo("huge.png")
        huge.size = 4 << 30
        tar.addfile(huge)
    before = sorted(tmp_path.rglob("*"))

    with caplog.at_level(logging.WARNING):
        data = opened(path.parent)

    assert samples(data) == {"../../up": (PNG, [["up"]])}
    made = set(tmp_path.rglob("*")) - set(before)
    assert all(one.is_relative_to(tmp_path / "index") for one in made)
    assert "within a member that needs more" in caplog.text


def test_a_truncated_tar_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    members = [
        (f"{row}.{kind}", data) for row in range(9) for kind, data in (("png", PNG), ("txt", b"x"))
    ]
    source = tar_of(tmp_path, *members)
    tar = source / "0.tar"
    tar.write_bytes(tar.read_bytes()[: 3 * (512 + -(-len(PNG) // 512) * 512 + 1024) + 700])

    assert samples(opened(source)).keys() == {"0", "1", "2"}


# ---------------------------------------------------------------------------------------- parquets


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_a_parquet_is_read_as_pyarrow_reads_it(tmp_path: Path, row_group_size: int) -> None:
    columns = {
        "key": [f"k{row}" for row in range(7)],
        "image": pa.array([{"bytes": PNG + bytes([row]), "path": None} for row in range(7)]),
        "text": ["one", "", None, "four", "five", " ", "seven"],
        "tags": [["a", "b"], [], None, ["c"], ["d"], ["e"], [" "]],
    }
    write_parquet(tmp_path / "data" / "0.parquet", columns, row_group_size)

    data = opened(tmp_path / "data", chosen=1, tags=1)

    table = pq.read_table(tmp_path / "data" / "0.parquet").to_pylist()
    assert samples(data) == {
        row["key"]: (
            row["image"]["bytes"],
            [
                [text for text in [row["text"]] if text and text.strip()],
                [text for text in row["tags"] or [] if text.strip()],
            ],
        )
        for row in table
        if row["key"] not in ("k1", "k2")
    }
    assert data.left_out == {"caption_missing": 2}


def test_a_parquet_of_the_hub_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [PNG, JPEG], "caption": ["one", "two"]}
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "caption": datasets.Value("string")}
    )
    theirs = datasets.Dataset.from_dict(rows, features=features)
    (tmp_path / "data").mkdir()
    theirs.to_parquet(tmp_path / "data" / "0.parquet")

    found = samples(opened(tmp_path / "data"))

    assert list(found.values()) == [(one["image"]["bytes"], [[one["caption"]]]) for one in theirs]


def test_rows_whose_download_failed_are_left_out(tmp_path: Path) -> None:
    columns = {
        "key": ["a", "b"],
        "jpg": pa.array([None, JPEG], pa.binary()),
        "caption": ["one", "two"],
        "status": ["failed_to_download", "success"],
    }
    write_parquet(tmp_path / "data" / "0.parquet", columns)

    data = opened(tmp_path / "data")

    assert samples(data) == {"b": (JPEG, [["two"]])}
    assert data.left_out == {"download_failed": 1}


def test_a_row_group_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    columns = {"jpg": [JPEG] * 6, "caption": [f"caption {row}" * 50 for row in range(6)]}
    path = tmp_path / "data" / "0.parquet"
    write_parquet(path, columns, 3)
    at = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = bytes(20)
    path.write_bytes(bytes(content))

    data = opened(tmp_path / "data")

    assert samples(data).keys() == {"000000000", "000000001", "000000002"}
    assert data.left_out == {"metadata_unreadable": 3}


# ------------------------------------------------------------------------------------------- index


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

    data = open_data([first, second / "0.tar"], Captions(), tmp_path / "index", workers=1)

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
