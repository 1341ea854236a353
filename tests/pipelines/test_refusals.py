"""What cannot work is refused before any work, in one sentence, with exit code 2."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.shards import picture, write_parquet, write_shard

PRESETS = "align, conceptual-captions, coyo, datacomp-basic, laion"
UNKNOWN = (
    "must be a known key, got an unknown one in recipe align; the keys are min_inclusive, "
    "min_exclusive, max_inclusive, max_exclusive"
)


pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that has a good shard in `in`."""
    write_shard(tmp_path / "in" / "0", [("a", picture(300, 300), "a photo of a red shoe")])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return what it says."""
    code: object
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse's
        code = end.code
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("altmill: ")
    assert said.err.endswith("\n")
    return said.err.removeprefix("altmill: ").removesuffix("\n")


def with_input(source: str) -> list[str]:
    return ["filter", "--input", source, "--output", "out", "--workers", "1"]


def with_output(output: str) -> list[str]:
    return ["filter", "--input", "in", "--output", output, "--workers", "1"]


def write_tar_beside_parquet_without_key(path: Path) -> None:
    write_shard(path / "0", [])
    write_parquet(path / "0.parquet", {"caption": ["a"]})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: None, "input bad must exist, got nothing there; check the path"),
        (Path.mkdir, "input bad must hold .tar or .parquet files, got neither; check the path"),
        (Path.touch, "input bad must hold .tar or .parquet files, got neither; check the path"),
        (
            lambda path: write_parquet(path / "0.parquet", {"caption": [["a"], ["b"]]}),
            "column caption of {here}/bad/0.parquet must hold text, got list<element: string>; "
            "name another: --set columns.caption=NAME",
        ),
        (
            lambda path: write_parquet(path / "0.parquet", {"url": ["u"], "title": ["a"]}),
            "{here}/bad/0.parquet must have a column of captions, got url, title; name it: "
            "--set columns.caption=NAME",
        ),
        (
            lambda path: (path.mkdir(), (path / "0.parquet").touch()),
            "{here}/bad/0.parquet must be a parquet file, got: Parquet file size is 0 bytes; "
            "repair it or move it away",
        ),
        (
            lambda path: (path.mkdir(), (path / "0.parquet").write_bytes(b"no parquet" * 9)),
            "{here}/bad/0.parquet must be a parquet file, got: Parquet magic bytes not found in "
            "footer. Either the file is corrupted or this is not a parquet file.; "
            "repair it or move it away",
        ),
        (
            write_tar_beside_parquet_without_key,
            "{here}/bad/0.parquet must have a column key, as the parquet of a tar shard, got "
            "caption; name it in the recipe's [columns] or move the tar away",
        ),
    ],
)
def test_an_input_that_cannot_be_read_is_named(
    make: Callable[[Path], object], sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(place / "bad")

    said = refusal(with_input("bad"), capsys)

    assert said == sentence.format(here=place)
    assert not (place / "out").exists()


def test_a_file_name_that_is_not_utf8_is_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "in" / "0.tar").rename(place / "in" / os.fsdecode(b"\xff.tar"))

    said = refusal(with_output("out"), capsys)

    assert said.startswith(f"input in must have file names in UTF-8, got '{place}/in/\\udcff'")


@pytest.mark.parametrize(
    ("output", "got"),
    [
        ("file", "[Errno 20] Not a directory: 'file/_work'"),
        ("file/below", "[Errno 20] Not a directory: 'file/below/_work'"),
        pytest.param(
            "/proc/altmill",
            "[Errno 2] No such file or directory: '/proc/altmill'",
            marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc"),
        ),
    ],
)
def test_an_output_that_cannot_be_written_is_named(
    output: str, got: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "file").write_text("mine")

    said = refusal(with_output(output), capsys)

    assert said == (
        f"output {output} must be a folder that can be written, got: {got}; choose another"
    )
    assert (place / "file").read_text() == "mine"


@pytest.mark.parametrize("output", ["in", "."])
def test_an_input_inside_its_output_is_refused(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(with_output(output), capsys)

    assert said == (
        f"input in must lie outside the output {output}, got it inside; choose another output"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("nonsense", "--set must be KEY=VALUE, got 'nonsense'; write KEY=VALUE"),
        ("=3", "--set must be KEY=VALUE, got '=3'; write KEY=VALUE"),
        ("name=3", "name must be a string, got 3 (int) in recipe align; correct it"),
        ("name.x=3", "--set name.x must lie in a table, got a value at name; drop it"),
        ("a=" + "[" * 9000, "recipe align must be TOML, got: maximum recursion depth exceeded"),
        (
            "rules.token_count.max=3",
            f"rules.token_count.max {UNKNOWN}",
        ),
        (
            "rules.token_count.max_inclusive=many",
            "rules.token_count.max_inclusive must be a number, got 'many' (str) in recipe align; "
            "correct it",
        ),
        (
            "rules.intact.x=1",
            "rules.intact must not be named, got it in recipe align; leave it out, as every run "
            "judges by it first",
        ),
        (
            "rules.ngram_rank.max_inclusive=100000001",
            "rules.ngram_rank must ask for ranks within tables.max_ngrams, 100,000,000, got "
            "100,000,001; raise tables.max_ngrams",
        ),
        (
            "language.model=nowhere.bin",
            "language.model must be a fastText language model, got 'nowhere.bin', which is no "
            'file; correct the path, or set "" for lid.176.ftz',
        ),
        (
            "columns.caption=title",
            "columns.caption must name a column of the input, got 'title', which "
            "{here}/in/0.parquet lacks; its columns are caption, key, status, url",
        ),
    ],
)
def test_a_change_that_cannot_work_is_named(
    change: str, sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal([*with_output("out"), "--set", change], capsys)

    assert said.startswith(sentence.format(here=place))
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            None,
            f"recipe my.toml must be a preset ({PRESETS}) or a TOML file, got: [Errno 2] No such "
            "file or directory: 'my.toml'; correct the name",
        ),
        (b"", "name must be set, got nothing in recipe my.toml; add it"),
        (
            b"name = 'x'\nnonsense",
            "recipe my.toml must be TOML, got: Expected '=' after a key in a key/value pair (at "
            "end of document); correct that line",
        ),
        (
            b"\xff",
            f"recipe my.toml must be a preset ({PRESETS}) or a TOML file, got: 'utf-8' codec can't "
            "decode byte 0xff in position 0: invalid start byte; correct the name",
        ),
        (
            b"name = 'x'\nmaterialize = true",
            "materialize must be a known key, got an unknown one in recipe my.toml; did you mean "
            "materialise?",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_named(
    content: bytes | None, sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (place / "my.toml").write_bytes(content)

    said = refusal([*with_output("out"), "--recipe", "my.toml"], capsys)

    assert said == sentence


@pytest.mark.parametrize("workers", ["0", "-1", "1.5", "many", ""])
def test_a_number_of_workers_is_one_or_more(
    workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal([*with_output("out")[:-1], workers], capsys)

    assert said == (
        f"argument --workers: must be a number from 1 on, got '{workers}'; "
        "python -m pipelines filter --help tells more"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: JOB; python -m pipelines --help tells more"),
        (
            ["filter", "--input", "in"],
            "the following arguments are required: --output; python -m pipelines filter --help "
            "tells more",
        ),
        (
            ["sample", "--output", "s", "--rows", "0"],
            "rows must be 1 to 1000000000, got 0 in write_sample; change it",
        ),
        (
            ["decide", "--from", "nowhere"],
            "nowhere must hold a complete run, got no manifest.json there; run filter to its end, "
            "or check the path",
        ),
        (
            ["explain", "0" * 32, "--from", "nowhere"],
            "nowhere must hold a complete run, got no manifest.json there; run filter to its end, "
            "or check the path",
        ),
    ],
)
def test_a_command_that_cannot_work_is_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(arguments, capsys) == sentence


def test_a_runner_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal([*with_output("out"), "--", "--runner=Nowhere"], capsys)

    assert said.startswith("Beam's options must be right, got: Unexpected pipeline runner: Nowhere")
