"""The command line: help, the plan of a dry run, the funnel, exit codes, the log."""

import os
import pty
import re
import subprocess
import sys
import termios
from importlib.resources import files
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.shards import picture, write_parquet, write_shard

ROOT = Path(__file__).parents[2]
FUNNEL = """\
           4          rows in
          -1   25.0%  intact.download_failed
          -1   25.0%  shorter_side.too_small
           2   50.0%  kept

report: {output}/report/index.html
"""
PLAN = """\
input     {source}: 2 shards of webdataset, 4 rows and those of 1 tars without parquet
columns   TEXT as caption
recipe    short, digest {digest}
  word_count       word_count >= 2
  shorter_side     shorter_side_px > 200 and < 1,000
exchange  files, 1 partitions, 3 processes
output    {output}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    pairs = [
        ("a", picture(300, 300), "a photo of a red shoe"),
        ("b", picture(200, 300), "a photo of a blue shoe"),
        ("c", None, "a photo of a green shoe"),
        ("d", picture(300, 301), "a photo of a black shoe"),
    ]
    write_shard(folder / "0", pairs)
    return folder


def run_as_a_command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "filter", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def listing(folder: Path) -> list[tuple[str, int]]:
    found = sorted(folder.rglob("*"))
    return [(path.relative_to(folder).as_posix(), path.stat().st_mtime_ns) for path in found]


def test_a_run_prints_its_funnel_and_where_the_report_is(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"

    code = main(["filter", "--input", str(source), "--output", str(output), "--workers", "1"])

    assert (code, capsys.readouterr().out) == (0, FUNNEL.format(output=output))
    assert (output / "report" / "index.html").is_file()


def test_as_a_command_it_logs_plain_lines_where_there_is_no_terminal(
    source: Path, tmp_path: Path
) -> None:
    smaller = "images.max_pixels=90299"  # by a pixel than image d, of which nobody warns
    done = run_as_a_command(tmp_path, "--input", str(source), "--output", "out", "--set", smaller)

    stages = [line.partition(" rows,")[0] for line in done.stderr.splitlines()]
    assert stages == ["Read: 4 of 4", "Measure: 4 of 4", "Decide: 4 of 4"]
    failed = "intact.download_failed\n"
    funnel = FUNNEL.replace(failed, failed + "          -1   25.0%  intact.image_too_large\n")
    funnel = funnel.replace("2   50.0%  kept", "1   25.0%  kept")
    assert (done.returncode, done.stdout) == (0, funnel.format(output="out"))


def test_as_a_command_it_shows_bars_on_a_terminal(source: Path, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    with os.fdopen(screen, "rb", 0) as shown, os.fdopen(terminal, "wb", 0) as stderr:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", "filter", "--input", source, "--output", "out"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            check=False,
        )
        stderr.write(b"END")
        seen = b""
        while not seen.endswith(b"END"):
            seen += shown.read(1 << 16)

    bar = r"\r(\w+) *: 100%\|[^\r]+\| 4\.00/4\.00 \[00:\d\d<00:00, [^\r]+ rows/s\]\r\n"
    assert done.returncode == 0
    assert re.findall(bar, seen.decode()) == ["Read", "Measure", "Decide"]


def test_as_a_command_it_refuses_in_one_sentence_with_exit_code_2(tmp_path: Path) -> None:
    done = run_as_a_command(tmp_path, "--input", "no", "--output", "out")

    sentence = "altmill: input no must exist, got nothing there; check the path\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_a_dry_run_prints_the_plan_and_touches_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "short.toml"
    rules = "[rules.word_count]\nmin_inclusive = 2\n[rules.shorter_side]\n"
    recipe.write_text(f'name = "short"\n{rules}')
    write_shard(source / "d" / "1", [("x", picture(300, 300), "alone")])
    (source / "d" / "1.parquet").unlink()
    write_parquet(source / "0.parquet", {"key": list("abcd"), "TEXT": ["a b"] * 4})
    before = listing(tmp_path)
    limits = ("min_exclusive=200", "max_exclusive=1000")
    changes = [part for limit in limits for part in ("--set", f"rules.shorter_side.{limit}")]
    options = ["--recipe", str(recipe), *changes, "--workers", "3", "--dry-run"]

    code = main(["filter", "--input", str(source), "--output", str(tmp_path / "out"), *options])

    said = capsys.readouterr().out
    digest = said.partition("digest ")[2][:12]
    assert (code, said) == (
        0,
        PLAN.format(source=source, output=tmp_path / "out", digest=digest),
    )
    assert listing(tmp_path) == before


def test_a_dry_run_says_which_rules_cannot_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "in" / "0.parquet", {"url": ["u"], "caption": ["a b c"]})
    paths = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]

    code = main(["filter", *paths, "--recipe", "datacomp-basic", "--workers", "1", "--dry-run"])

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    found = {line.split()[0]: line.partition("   cannot run: ")[2] for line in lines}
    assert code == 0
    missing = "the input has no width, height"
    assert {name: why for name, why in found.items() if why} == {
        "aspect_ratio": missing,
        "shorter_side": missing,
    }


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--help"], ["filter ", "decide ", "explain ", "sample ", "examples:", "--dry-run"]),
        (["filter", "--help"], ["--input PATH", "--recipe NAME", "--workers N", "after --;"]),
        (["decide", "--help"], ["--from DIR", "(default: in place)"]),
        (["explain", "--help"], ["UID", "32 hexadecimal digits", "--from DIR"]),
        (["sample", "--help"], ["--rows N", "default: 6000"]),
    ],
)
def test_help_tells_a_person_what_there_is(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    told = capsys.readouterr().out
    assert end.value.code == 0
    assert [part for part in parts if part not in told] == []


def test_help_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["filter", "--help"])

    told = " ".join(capsys.readouterr().out.split())
    names = [path.name for path in files("pipelines.recipes").iterdir()]
    presets = sorted(name.removesuffix(".toml") for name in names)
    others = "a TOML file, or a run's manifest.json (default: align)"
    assert f"--recipe NAME {', '.join(presets)}, {others}" in told


def test_beams_own_options_follow_after_two_dashes(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["filter", "--input", str(source), "--output", str(output), "--workers", "1"]

    code = main([*command, "--", "--runner=FnApiRunner"])

    assert (code, capsys.readouterr().out) == (0, FUNNEL.format(output=output))
