"""A run that is killed is finished by the same command, with the bytes of one that was not."""

import os
import signal
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.interruptions import kill_group, kill_once, start, wait_until
from tests.outputs import files_of
from tests.shards import write_crawl


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_crawl(folder, shards=6, rows=300, images=40, seed=3)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    assert main(command(source, output)) == 0
    return files_of(output)


def command(source: Path, output: Path) -> list[str]:
    paths = ["--input", str(source), "--output", str(output)]
    values = (
        "materialise=true",
        "rules.duplicate.same=near_pair",
        "rules.duplicate.merge_captions=true",
    )
    changes = [part for value in values for part in ("--set", value)]
    return ["filter", *paths, *changes, "--workers", "2"]


def kill_alone(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def living(group: int) -> list[str]:
    """Return the commands of a process group's members that are not dead yet."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


@pytest.mark.parametrize("stage", ["MergeNgrams", "Link", "MergeCaptions", "Decide"])
def test_a_killed_run_is_finished_by_the_same_command(
    stage: str,
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out"
    arguments = command(source, output)
    kill_once(output / "_work" / "done" / stage, kill_group, arguments)
    assert not (output / "manifest.json").exists()

    code = main(arguments)

    assert code == 0
    assert f"going on with the unfinished run in {output}" in caplog.messages
    assert files_of(output) == undisturbed


def test_workers_end_with_a_run_that_is_killed_alone(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = command(source, output)

    group = kill_once(output / "_work" / "done" / "Read", kill_alone, arguments)

    wait_until(lambda: not living(group))
    assert main(arguments) == 0
    assert files_of(output) == undisturbed


def test_what_was_finished_stays_and_what_was_half_written_goes(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = command(source, output)
    done = output / "_work" / "done" / "Measure"
    kill_once(done, kill_group, arguments)
    finished = [output / "columns" / f"{path.stem}.parquet" for path in done.glob("*.json")]
    written_at = [path.stat().st_mtime_ns for path in finished]
    half = output / "columns" / ".00003.parquet.host-1-abcd.tmp"
    half.write_bytes(b"PAR1")

    code = main(arguments)

    assert code == 0
    assert len(finished) > 0
    assert [path.stat().st_mtime_ns for path in finished] == written_at
    assert files_of(output) == undisturbed


def test_a_second_run_into_one_output_is_refused_while_the_first_is_at_work(
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    first = start(command(source, output))
    wait_until((output / "_work" / "plan.json").exists)

    code = main(command(source, output))

    assert (code, capsys.readouterr().err) == (
        2,
        f"altmill: output {output} must be written by one run at a time, got another at work "
        "there; wait for it, or choose another folder\n",
    )
    assert first.wait() == 0
    assert files_of(output) == undisturbed
