"""A shard's check: what it calls a pair is what webdataset and open_clip read, and each ailment."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from pipelines.checkup import IMAGES, Check, check_shard, digest_of, key_of
from pipelines.findings import Checkup
from tests import crawls
from tests.shards import picture, write_parquet, write_tar

PNG = picture(40, 30)


def members(*keys: str) -> list[tuple[str, bytes]]:
    return [(f"{k}.{ext}", data) for k in keys for ext, data in (("png", PNG), ("txt", b"a shoe"))]


def checked(path: Path, content: list[tuple[str, bytes]] | bytes, **how: object) -> Checkup:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_tar(path, content)
    beside = path.with_suffix(".parquet")
    return check_shard(Check(**how), [path, *[beside] * beside.exists()])  # type: ignore[arg-type]


def counts(checkup: Checkup) -> dict[str, int]:
    return {name: count for name, (count, _) in checkup.found.items()}


@pytest.mark.filterwarnings("ignore")  # theirs: files that are left open
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crawl=crawls.webdatasets())
def test_samples_and_pairs_are_those_that_webdataset_yields(
    crawl: crawls.Crawl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    webdataset = pytest.importorskip("webdataset")
    folder = tmp_path_factory.mktemp("crawl")
    crawl(folder)
    for path in folder.rglob("*.tar"):
        checkup = check_shard(Check(), [path])
        dataset = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
        if "name_repeated" in checkup.found:
            with pytest.raises(ValueError, match="duplicate file name"):
                list(dataset)
            continue
        found = list(dataset)
        assert checkup.samples == len(found)
        assert checkup.pairs == sum("txt" in s and any(i in s for i in IMAGES) for s in found)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_split_and_repeated_samples_are_read_as_open_clip_does(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra train")
    data = pytest.importorskip("open_clip_train.data", reason="a test-only dependency")
    a, b = members("a"), members("b")
    files = [a[0], *b, a[1], *b, ("c.PNG", PNG), ("c.txt", b"c"), *members("d"), *members("d")]

    checkup = checked(tmp_path / "0.tar", files)

    named = [{"fname": name, "data": content, "__url__": "0.tar"} for name, content in files]
    samples = list(data.group_by_keys_nothrow(named))
    assert checkup.samples == len(samples)
    assert checkup.pairs == sum(map(data.filter_no_caption_or_no_image, samples)) == 5
    assert counts(checkup) == {
        "image_missing": 1,
        "caption_missing": 1,
        "sample_split": 1,
        "key_repeated": 1,
        "name_repeated": 1,
    }


CASES = {
    "image_empty": [("a.png", b""), ("a.txt", b"a shoe")],
    "caption_empty": [("a.png", PNG), ("a.txt", b" \n")],
    "caption_not_utf8": [("a.png", PNG), ("a.txt", b"caf\xe9")],
    "caption_long": [("a.png", PNG), ("a.txt", b"shoe " * 200_000)],
    "images_several": [("a.jpg", PNG), ("a.png", PNG), ("a.txt", b"a shoe")],
    "key_nested": members("folder/a"),
    "file_ignored": [*members("a"), ("README", b"hello"), ("__meta__/x.json", b"{}")],
    "image_undecodable": [("a.png", b"<html>"), ("a.txt", b"a shoe")],
    "json_broken": [*members("a"), ("a.json", b"{'caption': 1}")],
}


@pytest.mark.parametrize("ailment", CASES)
def test_each_ailment_is_found_alone_and_with_an_example(ailment: str, tmp_path: Path) -> None:
    checkup = checked(tmp_path / "0.tar", [*members("ok"), *CASES[ailment]], sample=9)

    assert counts(checkup) == {ailment: 2 if ailment == "file_ignored" else 1}
    assert checkup.found[ailment][1] in {"README", "a", "folder/a", "a: jpg, png"}
    assert checkup.pairs == 2


def test_hidden_files_in_a_folder_cut_samples(tmp_path: Path) -> None:
    (image, text), hidden = members("d/a"), ("d/._a.txt", b"of macOS")

    checkup = checked(tmp_path / "0.tar", [image, hidden, text])

    assert checkup.pairs == 0
    assert checkup.found["file_hidden"] == (1, "d/._a.txt")
    assert "sample_split" in checkup.found


def test_a_key_with_a_dot_has_no_image(tmp_path: Path) -> None:
    checkup = checked(tmp_path / "0.tar", members("photo.v2"))

    assert counts(checkup).keys() == {
        "image_missing",
        "caption_missing",
        "key_dotted",
        "shard_empty",
    }
    assert checkup.found["key_dotted"][1] == "photo.v2.png"


@pytest.mark.parametrize(
    ("content", "ailment"),
    [
        (b"x", "tar_damaged"),
        (b"<!DOCTYPE html>" * 99, "tar_damaged"),
        (gzip.compress(b"x" * 2000), "tar_compressed"),
    ],
    ids=["one byte", "a web page", "gzip"],
)
def test_what_is_no_tar_is_said_to_be_none(content: bytes, ailment: str, tmp_path: Path) -> None:
    checkup = checked(tmp_path / "0.tar", content)

    assert counts(checkup) == {ailment: 1, "shard_empty": 1}


def test_of_a_tar_cut_short_the_rest_is_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "whole.tar", members("a", "b", "c"))
    whole = (tmp_path / "whole.tar").read_bytes()
    third = whole.index(b"c.png")

    checkup = checked(tmp_path / "0.tar", whole[: third + 600])

    assert (checkup.pairs, counts(checkup)) == (2, {"tar_damaged": 1})
    assert "the file ends at byte" in checkup.found["tar_damaged"][1]


def test_names_that_would_act_are_names(tmp_path: Path) -> None:
    hostile = "../../etc/\u202e<script>\x1b[31m"
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, data in members(hostile):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

    checkup = checked(tmp_path / "0.tar", sink.getvalue())

    assert (checkup.pairs, set(counts(checkup))) == (1, {"key_nested"})
    assert key_of(tmp_path / "0.tar", digest_of(hostile)) == hostile


def test_what_is_said_beside_a_tar_must_be_true_of_it(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 2, "1.tar": 3}))
    (tmp_path / "1_stats.json").write_text(json.dumps({"count": 9, "successes": 4}))
    keys = ["a", "c", "failed"]
    status = ["success", "success", "failed_to_download"]
    write_parquet(tmp_path / "1.parquet", {"key": keys, "status": status})
    write_parquet(tmp_path / "0.parquet", {"key": ["b", "a"]})

    right = checked(tmp_path / "0.tar", members("a", "b"))
    wrong = checked(tmp_path / "1.tar", members("a", "b"))
    absent = checked(tmp_path / "2.tar", members("a", "b"))

    assert counts(right) == {}
    assert counts(wrong) == {"sizes_wrong": 1, "stats_wrong": 1, "parquet_differs": 1}
    assert wrong.found["parquet_differs"][1] == "1 lacking, 1 more, such as b, c"
    assert counts(absent) == {"sizes_lacks": 1}


def test_what_is_beside_a_tar_may_be_garbage(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(b"PAR1 not")
    for name in ("sizes.json", "0_stats.json"):
        (tmp_path / name).write_bytes(b"\xff{")

    checkup = checked(tmp_path / "0.tar", members("a"))

    assert set(counts(checkup)) == {"parquet_unreadable", "sizes_unreadable", "stats_wrong"}


def test_parquet_with_images_is_checked_too(tmp_path: Path) -> None:
    columns = {
        "jpg": pa.array([PNG, b"<html>", None, None, PNG, PNG], pa.binary()),
        "caption": ["a shoe", "a hat", "no image", "failed", " ", "twice"],
        "key": ["a", "b", "c", "d", "e", "a"],
        "status": ["success"] * 3 + ["failed_to_download"] + ["success"] * 2,
    }
    write_parquet(tmp_path / "0.parquet", columns)
    (tmp_path / "1.parquet").write_bytes(b"PAR1 not")

    checkup = check_shard(Check(sample=9), [tmp_path / "0.parquet"])
    garbage = check_shard(Check(sample=9), [tmp_path / "1.parquet"])

    assert (checkup.samples, checkup.pairs, checkup.looked_at) == (5, 2, 4)
    assert counts(checkup) == {
        "image_undecodable": 1,
        "image_missing": 1,
        "caption_empty": 1,
        "key_repeated": 1,
    }
    assert set(counts(garbage)) == {"parquet_unreadable"}


def test_the_sample_depends_on_the_seed_alone(tmp_path: Path) -> None:
    keys = [f"{n:03d}" for n in range(60)]
    files = [(f"{k}.png", PNG if int(k) % 2 else b"<html>") for k in keys]
    write_tar(tmp_path / "0.tar", files)

    def looked(seed: int) -> tuple[int, str]:
        found = check_shard(Check(sample=20, seed=seed), [tmp_path / "0.tar"])
        assert found.looked_at == 20
        return found.found["image_undecodable"]

    assert looked(1) == looked(1)
    assert len({looked(seed) for seed in range(5)}) > 1
    assert all(3 <= looked(seed)[0] <= 17 for seed in range(5))
