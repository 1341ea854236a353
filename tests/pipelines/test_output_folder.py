"""An output folder holds one run: the same one goes on, another is refused."""

import shutil
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.outputs import files_of, manifest_of
from tests.shards import picture, write_parquet, write_shard


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an input folder; not to be changed."""
    folder = tmp_path_factory.mktemp("source")
    pairs = [(key, picture(300, 300 + n), f"a photo of {key}") for n, key in enumerate("abc")]
    write_shard(folder / "0", pairs)
    return folder


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run over it; not to be changed."""
    output = tmp_path_factory.mktemp("finished") / "out"
    assert run(source, output, "--set", "materialise=true") == 0
    return output


def run(source: Path, output: Path, *options: str) -> int:
    paths = ["--input", str(source), "--output", str(output)]
    return main(["filter", *paths, "--workers", "1", *options])


def times_of(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}


def test_the_same_command_again_finds_its_work_done(
    source: Path,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = times_of(finished)

    code = run(source, finished, "--set", "materialise=true")

    assert code == 0
    assert capsys.readouterr().out.endswith(f"kept\n\nreport: {finished}/report/index.html\n")
    assert f"{finished} is complete already: same recipe, input and code" in caplog.messages
    assert times_of(finished) == before


@pytest.mark.parametrize("what", ["recipe", "input"])
def test_another_run_is_refused(
    what: str, source: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = times_of(finished)
    shutil.copytree(source, tmp_path / "in")
    if what == "input":
        write_shard(tmp_path / "in" / "1", [("d", picture(300, 300), "one more")])
    changes = ["--set", f"materialise={'true' if what == 'input' else 'false'}"]

    code = run(tmp_path / "in", finished, *changes)

    assert (code, capsys.readouterr()) == (
        2,
        (
            "",
            f"altmill: output {finished} must be empty or hold the same run, got columns of a run "
            "with another recipe, input or code; choose another folder, or add --overwrite\n",
        ),
    )
    assert times_of(finished) == before


def test_overwriting_leaves_what_a_fresh_run_leaves_and_what_is_not_ours(
    source: Path, finished: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    (output / "notes.txt").write_text("mine")

    code = run(source, output, "--recipe", "coyo", "--overwrite")

    assert code == 0
    assert run(source, tmp_path / "fresh", "--recipe", "coyo") == 0
    assert files_of(output) == files_of(tmp_path / "fresh") | {"notes.txt": b"mine"}


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_outputs_inside_the_input_are_not_read_as_input(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    if kind == "tar":
        write_shard(source / "0", [("a", picture(300, 300), "a photo of a shoe")])
    else:
        write_parquet(source / "0.parquet", {"url": ["u"], "caption": ["a photo of a shoe"]})
    changes = ["--set", "materialise=true"] if kind == "tar" else []
    first, second = source / "one", source / "two"
    assert run(source, first, *changes) == 0

    code = run(source, second, *changes)

    assert code == 0
    assert files_of(second) == files_of(first)
    assert [shard["shard"] for shard in manifest_of(second)["shards"]] == ["0"]
