"""The command line, from a filter run to captions: every verb, killed, in parts, and on Beam."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra recaption")
pytest.importorskip("transformers", reason="needs the extra recaption")

from pipelines.commands import main as pipelines  # needs no torch
from tests.recaption.runs import captions, filter_both, prepare, verb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe, and a run whose captions were written, in `out`."""
    home = tmp_path_factory.mktemp("recaption")
    prepare(home)
    filter_both(home)
    assert verb("run", home / "out", "--clean", str(home / "clean-out")) == 0
    return home


@pytest.fixture
def fresh(home: Path, tmp_path: Path) -> Path:
    """Return a copy of the run with its models, but without captions."""
    shutil.copytree(home / "out", tmp_path / "out", ignore=shutil.ignore_patterns("captions"))
    shutil.copy(home / "tiny.toml", tmp_path)
    return tmp_path / "out"


def test_a_run_captions_what_may_stay(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = captions(home / "out")

    asked = [row for row in rows if row["asked"]]
    assert len(rows) == 90
    assert len(asked) > 60
    assert all(len(row["candidates"]) == 2 for row in asked)
    assert all(row["chosen"] for row in asked if row["kept"])
    assert (home / "out" / "recaption" / "filter" / "calibration.json").is_file()
    assert pipelines(["report", "--from", str(home / "out")]) == 0
    assert pipelines(["explain", asked[0]["uid"], "--from", str(home / "out")]) == 0
    assert "captions, chosen by capfilt" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = captions(home / "out")

    assert verb("run", home / "out", "--clean", str(home / "clean-out")) == 0

    told = capsys.readouterr().out
    assert "captions for 0 images" in told
    assert "scores for 0 images" in told
    assert captions(home / "out") == before


def test_a_choice_can_be_another_and_be_taken_back(fresh: Path, home: Path) -> None:
    shutil.copytree(home / "out" / "captions", fresh / "captions")

    assert verb("choose", fresh, "--set", "choose.rule=theory") == 0
    by_theory = captions(fresh)
    assert verb("revert", fresh) == 0

    assert by_theory != captions(home / "out")
    rows = captions(fresh)
    assert [row["chosen"] for row in rows] == [row["raw"] if row["kept"] else None for row in rows]
    assert [row["candidates"] for row in rows] == [row["candidates"] for row in by_theory]


def test_a_killed_run_goes_on_to_the_same_rows(fresh: Path, home: Path) -> None:
    command = [sys.executable, "-c", SLOW, "generate", "--from", str(fresh)]
    process = subprocess.Popen(
        [*command, "--recipe", str(fresh.parent / "tiny.toml")], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    parts = fresh / "captions" / "_parts"
    end = time.monotonic() + 120
    while not list(parts.rglob("*.parquet")) and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not list((fresh / "captions").glob("*.parquet"))

    for name in ("generate", "score", "choose"):
        assert verb(name, fresh) == 0

    assert captions(fresh) == captions(home / "out")
    assert not list(parts.rglob("*.parquet"))


SLOW = """
import sys, time
from recaption import __main__, builtin, parts
parts.GROUP = 8
caption = builtin.BlipCaptioner.caption
builtin.BlipCaptioner.caption = lambda *given: [time.sleep(0.3), caption(*given)][1]
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_a_beam_runner_gives_the_same_rows(fresh: Path, home: Path) -> None:
    recipe = ["--recipe", str(fresh.parent / "tiny.toml")]

    assert pipelines(["recaption", "--from", str(fresh), *recipe]) == 0

    assert captions(fresh) == captions(home / "out")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("generate", ["--captioner", "blop:x"], "captioner must be like blip:FOLDER-OR-ID"),
        ("generate", ["--captioner", "blip:/nowhere"], "/nowhere"),
        ("score", ["--scorer", "openai:http://x#y"], "scorer must be like blip:FOLDER-OR-ID"),
        ("score", [], "run generate over all shards first"),
        ("choose", [], "run generate and score over all shards first"),
        ("generate", ["--recipe", "none"], "recipe none must be a preset"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    name: str, options: list[str], sentence: str, fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(name, fresh, *options) == 2

    said = capsys.readouterr().err
    assert said.startswith("altmill: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_a_part_is_every_nth_shard(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("generate", fresh, "--part", "1/2") == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        verb("generate", fresh, "--part", "2/2")
    assert "must be I/N with I from 0 to N - 1, got '2/2'" in capsys.readouterr().err
