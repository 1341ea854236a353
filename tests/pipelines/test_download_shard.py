"""A shard that was downloaded: img2dataset's columns and members, and rows in order."""

import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.commands import main
from tests.outputs import reasons_of
from tests.pipelines.downloads import (
    download,
    errors_of,
    members_of,
    rows_of,
    write_list,
)
from tests.pipelines.web import sends, serving
from tests.shards import photo, picture, write_parquet

pytestmark = pytest.mark.usefixtures("guarded")

JPEG = photo(1)


def test_a_shard_is_as_img2dataset_writes_it(tmp_path: Path) -> None:
    png = picture(50, 40)
    with serving({"/a.jpg": sends(JPEG), "/b.png": sends(png)}) as web:
        urls = [web.url("/a.jpg"), web.url("/gone"), web.url("/b.png")]
        source = write_list(tmp_path / "in", urls, lang=["en", None, "de"], width=[9, 8, 7])

        download(source, tmp_path / "out", "--shard-rows", "2")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("00000.parquet", "00000.tar", "00000_stats.json"),
        *("00001.parquet", "00001.tar", "00001_stats.json"),
        *("_download", "sizes.json"),
    ]
    first = {
        "lang": "en",
        "input_width": 9,
        "caption": "picture 0",
        "url": urls[0],
        "key": "000000",
        "status": "success",
        "error_message": None,
        "width": 320,
        "height": 240,
        "original_width": 320,
        "original_height": 240,
        "sha256": hashlib.sha256(JPEG).hexdigest(),
    }
    members = members_of(tmp_path / "out")
    assert list(members) == ["000000.jpg", "000000.json", "000000.txt"]
    assert members["000000.jpg"] == JPEG
    assert members["000000.txt"] == b"picture 0"
    assert list(json.loads(members["000000.json"]).items()) == list(first.items())
    assert members_of(tmp_path / "out", "00001")["000010.jpg"] == png
    rows = rows_of(tmp_path / "out")
    assert rows[0] == first
    assert [(r["key"], r["status"], r["error_message"], r["width"]) for r in rows[1:]] == [
        ("000001", "failed_to_download", "http_404", None),
        ("000010", "success", None, 50),
    ]
    schema = pq.read_schema(tmp_path / "out" / "00000.parquet")
    assert str(schema.field("original_height").type) == "int32"
    assert json.loads((tmp_path / "out" / "sizes.json").read_text()) == {
        "00000.tar": 1,
        "00001.tar": 1,
    }


def test_the_filter_job_reads_what_came(tmp_path: Path) -> None:
    with serving({"/a": sends(JPEG), "/small": sends(photo(2, 90, 60))}) as web:
        source = write_list(tmp_path / "in", [web.url(path) for path in ("/a", "/small", "/gone")])
        download(source, tmp_path / "shards")

    recipe = tmp_path / "sizes.toml"
    recipe.write_text('name = "sizes"\n[rules.shorter_side]\nmin_exclusive = 200\n')
    paths = ["--input", str(tmp_path / "shards"), "--output", str(tmp_path / "out")]
    code = main(["filter", *paths, "--recipe", str(recipe), "--workers", "1"])

    assert code == 0
    assert reasons_of(tmp_path / "out") == {
        "intact.download_failed": 1,
        "kept": 1,
        "shorter_side.too_small": 1,
    }


def test_larger_images_are_made_smaller_and_the_others_stay(tmp_path: Path) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # lies on its right side
    Image.open(io.BytesIO(photo(3, 900, 600))).save(turned, "JPEG", exif=exif)
    small, broken = photo(4, 500, 100), photo(3, 900, 600)[:9000]
    pages = {"/turned": turned.getvalue(), "/small": small, "/broken": broken}
    with serving({path: sends(body) for path, body in pages.items()}) as web:
        source = write_list(tmp_path / "in", [web.url(path) for path in pages])

        download(source, tmp_path / "out", "--shorter-side", "100")

    sizes = ("width", "height", "original_width", "original_height", "error_message")
    assert [tuple(row[name] for name in sizes) for row in rows_of(tmp_path / "out")] == [
        (100, 150, 900, 600, None),
        (500, 100, 500, 100, None),
        (None, None, None, None, "image_undecodable"),
    ]
    members = members_of(tmp_path / "out")
    assert Image.open(io.BytesIO(members["000000000.jpg"])).size == (100, 150)
    assert members["000000001.jpg"] == small


def test_a_url_of_several_rows_is_asked_for_once(tmp_path: Path) -> None:
    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", [web.url("/a")] * 3 + [web.url("/b")] * 2)

        download(source, tmp_path / "out")

        assert web.times_asked == {"/a": 1, "/b": 1}
    assert errors_of(tmp_path / "out") == [None, None, None, "http_404", "http_404"]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", ["no"], link=[web.url("/a")], title=["A"])

        download(source, tmp_path / "out", "--column", "url=link", "--column", "caption=title")

    (row,) = rows_of(tmp_path / "out")
    assert (row["url"], row["caption"], row["status"]) == (web.url("/a"), "A", "success")


def test_text_that_is_not_unicode_is_a_row_like_any_other(tmp_path: Path) -> None:
    with serving({"/a": sends(JPEG)}) as web:
        texts = pa.array([b"caf\xe9", b"ok"], pa.binary()).view(pa.string())
        urls = pa.array([web.url("/a").encode(), b"http://\xff"], pa.binary()).view(pa.string())
        write_parquet(tmp_path / "in" / "a.parquet", {"url": urls, "text": texts})

        assert download(tmp_path / "in", tmp_path / "out") == 0

    assert [(row["caption"], row["error_message"]) for row in rows_of(tmp_path / "out")] == [
        ("caf\ufffd", None),
        ("ok", "url_invalid"),
    ]
