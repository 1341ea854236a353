"""The doctor: a line per finding, the exit code, and what only a look at all shards tells."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import main
from tests.shards import picture, write_shard, write_tar

PNG = picture(40, 30)
Doctor = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["doctor", *map(str, arguments), "--workers", "1"])
        return code, *capsys.readouterr()

    return run


def stated(doctor: Doctor, *arguments: object) -> tuple[int, dict[str, Any], dict[str, Any]]:
    code, printed, _ = doctor(*arguments, "--json")
    found = json.loads(printed)
    return code, found, {finding["rule"]: finding for finding in found["findings"]}


def write(path: Path, *keys: str, image: bytes = PNG, caption: bytes | None = b"a shoe") -> None:
    files = [(f"{key}.png", image) for key in keys]
    files += [(f"{key}.txt", caption) for key in keys if caption is not None]
    write_tar(path, sorted(files))


def test_shards_that_are_well_are_said_to_be(doctor: Doctor, tmp_path: Path) -> None:
    for name in "01":
        pairs = [(f"{name}{at}", PNG, f"a photo of shoe {at}") for at in range(3)]
        write_shard(tmp_path / name, [*pairs, (f"{name}f", None, "a failed download")])

    code, printed, _ = doctor(tmp_path)

    assert code == 0
    assert printed == (
        "6 of 6 samples in 2 shards are pairs of an image and a caption; 6 images were decoded\n"
        "nothing is wrong with them\n"
    )


def test_that_no_sample_has_a_caption_is_said_in_numbers(doctor: Doctor, tmp_path: Path) -> None:
    write(tmp_path / "0.tar", *(f"{n:04d}" for n in range(1200)), caption=None)

    code, printed, _ = doctor(tmp_path, "--sample", "0")

    assert code == 1
    lines = printed.splitlines()
    assert lines[0].startswith("0 of 1,200 samples in 1 shards are pairs")
    assert lines[1].startswith("error    caption_missing    0 of 1,200 samples have txt, such as ")
    assert "0.tar: 0000; write it beside the image" in lines[1]


def test_some_missing_captions_are_no_error(doctor: Doctor, tmp_path: Path) -> None:
    write(tmp_path / "0.tar", "a", "b")
    write(tmp_path / "1.tar", "c", caption=None)

    code, found, rules = stated(doctor, tmp_path)

    assert code == 0
    assert (found["pairs"], found["samples"]) == (2, 3)
    assert rules["caption_missing"]["severity"] == "warning"
    assert rules["caption_missing"]["what"] == "2 of 3 samples have txt"
    assert rules["shard_empty"]["count"] == 1
    assert rules["members_differ"]["example"] == "txt 2; none 1"


def test_captions_may_be_in_another_member(doctor: Doctor, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.png", PNG), ("a.caption", b"a shoe")])

    assert doctor(tmp_path)[0] == 1
    assert doctor(tmp_path, "--caption", "caption")[0] == 0


def test_keys_in_several_shards_are_found(doctor: Doctor, tmp_path: Path) -> None:
    write(tmp_path / "0.tar", "a", "b", "c")
    write(tmp_path / "1.tar", "d", "c", "a")
    write(tmp_path / "2.tar", "c", "e")

    code, _, rules = stated(doctor, tmp_path)

    assert code == 0
    shared = rules["key_in_shards"]
    assert shared["count"] == 2
    folder = tmp_path.name
    assert shared["example"] in {f"{key} in {folder}/0.tar and {folder}/1.tar" for key in "ac"}


def test_images_of_several_kinds_are_told_apart(doctor: Doctor, tmp_path: Path) -> None:
    write(tmp_path / "0.tar", "a", "b")
    write_tar(tmp_path / "1.tar", [("c.JPG", picture(9, 9, "JPEG")), ("c.txt", b"a shoe")])

    _, _, rules = stated(doctor, tmp_path)

    assert rules.keys() == {"image_kinds"}
    assert rules["image_kinds"]["example"] == "png 2; jpg 1"


def test_a_pattern_as_of_open_clip_names_shards_that_are_not_there(
    doctor: Doctor, tmp_path: Path
) -> None:
    for name in ("s/00000", "s/00002", "t/00000"):
        write(tmp_path / f"{name}.tar", f"{name[0]}{name[-1]}")
    pattern = f"{tmp_path}/s/{{00000..00002}}.tar::{tmp_path}/t/00000.tar"

    code, found, rules = stated(doctor, pattern)

    assert code == 1
    assert (found["shards"], found["samples"]) == (3, 3)
    assert rules["shard_missing"]["count"] == 1
    assert rules["shard_missing"]["example"].endswith("/s/00001.tar")


def test_errors_come_first(doctor: Doctor, tmp_path: Path) -> None:
    write(tmp_path / "0.tar", "folder/a", "b", caption=b"")
    (tmp_path / "1.tar").write_bytes(b"x")

    code, printed, _ = doctor(tmp_path)

    assert code == 1
    order = [line.split()[0] for line in printed.splitlines()[1:]]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert {"error", "warning", "note"} == set(order)


def test_hostile_names_do_not_reach_the_terminal(doctor: Doctor, tmp_path: Path) -> None:
    write(tmp_path / "0.tar", "\x1b[31m\u202eevil/" + "x" * 300, caption=b"")

    for options in ((), ("--json",)):
        _, printed, _ = doctor(tmp_path, *options)
        assert "\x1b" not in printed
        assert "\u202e" not in printed
        assert "x" * 200 not in printed


def test_the_shards_of_a_run_are_those_that_it_wrote(
    doctor: Doctor, filtered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(filtered, tmp_path / "out")
    assert main(["materialise", "--from", str(output), "--workers", "1"]) == 0
    capsys.readouterr()

    code, found, rules = stated(doctor, output)

    assert code == 0
    assert found["samples"] == found["pairs"]
    assert found["pairs"] == json.loads((filtered / "manifest.json").read_text())["kept"]
    assert rules.keys() <= {"image_kinds"}


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("nothing", "must exist, got nothing there"),
        ("empty", "must hold .tar or .parquet files, got neither"),
        ("{0..3}.tar", "must name files that are there, got none of 4"),
        ("{0..3.tar", "must have a closing brace"),
        ("pipe:aws s3 cp s3://b/{0..3}.tar -", "must be files on this machine, got a command"),
        ("pipe:aws s3 cp s3://b/0.tar -", "must be files on this machine, got a command"),
    ],
)
def test_what_names_no_shard_is_one_sentence(
    named: str, sentence: str, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    code, printed, said = doctor(named)

    assert (code, printed) == (2, "")
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_several_processes_say_the_same(
    doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "012":
        write(tmp_path / f"{name}.tar", f"{name}a", f"{name}b", image=b"<html>")

    one = doctor(tmp_path, "--sample", "3")[:2]
    code = main(["doctor", str(tmp_path), "--sample", "3", "--workers", "2"])

    assert (code, capsys.readouterr().out) == one
    assert one[0] == 1
