"""Tars: what others find in them, also in damaged and hostile ones."""

import io
import json
import logging
import tarfile
from pathlib import Path

import pytest

from tests.shards import SHARED_DATA
from tests.train.indexed import JPEG, PNG, opened, samples, tar_of, texts
from train.index import open_data
from train.mixing import Captions
from train.places import MAX_CHARS

UNRAISABLE = "ignore::pytest.PytestUnraisableExceptionWarning"


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
