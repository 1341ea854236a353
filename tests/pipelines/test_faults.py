"""Whatever fails under a run, it stops in one sentence, and no row is lost, doubled or wrong."""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.commands import main
from pipelines.inputs import InputError
from pipelines.plan import Plan, plan_filter, read_recipe
from pipelines.run import run_filter
from tests.outputs import files_of, manifest_of
from tests.shards import picture, write_crawl, write_tar

ROOT = Path(__file__).parents[2]
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1
"""See prctl(2) and capabilities(7)."""
CENTURY_NS = 100 * 365 * 86_400 * 10**9


def write_corpus(folder: Path) -> None:
    write_crawl(folder, shards=4, rows=80, images=20, seed=5)
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Return a corpus, not to be changed, and what a run over it leaves."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_corpus(folder / "in")
    assert main(command(folder / "in", folder / "out")) == 0
    return folder / "in", files_of(folder / "out")


@pytest.fixture
def source(undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Path:
    """Return a copy of the corpus at a path of its own."""
    shutil.copytree(undisturbed[0], tmp_path / "in")
    return tmp_path / "in"


def command(source: Path, output: Path, *options: str, workers: int = 1) -> list[str]:
    paths = ["--input", str(source), "--output", str(output)]
    return ["filter", *paths, "--set", "materialise=true", "--workers", str(workers), *options]


def plan(source: Path, output: Path) -> Plan:
    recipe = read_recipe("align", ["materialise=true"])
    return plan_filter(str(source), output, recipe, workers=1)


def named(source: Path, files: dict[str, bytes], other: Path) -> dict[str, bytes]:
    """Return what a run left, as if its input had been in another folder; without the pages."""
    return {
        name: content.replace(str(other).encode(), str(source).encode())
        for name, content in files.items()
        if not name.startswith("report/")
    }


@pytest.fixture
def expected(undisturbed: tuple[Path, dict[str, bytes]], source: Path) -> dict[str, bytes]:
    return named(source, undisturbed[1], undisturbed[0])


def left(output: Path, source: Path) -> dict[str, bytes]:
    return named(source, files_of(output), source)


def when(there: Callable[[], bool], do: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something is there."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not there() and time.monotonic() < end:
            time.sleep(0.001)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# ------------------------------------------------------------------------------- a worker is killed


def children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def test_a_worker_that_is_killed_costs_no_row(
    source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", *command(source, output, workers=2)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    done = output / "_work" / "done" / "Read"

    def kill() -> None:
        for child in children(process.pid):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                return

    killing = when(lambda: any(done.glob("*.json")), kill)
    said = process.communicate()[1]
    killing.join()

    assert process.returncode == 0
    assert b"a worker process died during" in said
    assert left(output, source) == expected


# --------------------------------------------------------------------------------- the disk is full


@pytest.mark.parametrize("most_bytes", [pytest.param(3_000, marks=pytest.mark.slow), 20_000])
def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_room(
    most_bytes: int, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    full = subprocess.run(
        [sys.executable, "-m", "pipelines", *command(source, output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=fill,
        check=False,
    )
    [said] = [line for line in full.stderr.splitlines() if line.startswith("altmill: ")]
    assert full.returncode == 2
    assert "File too large" in said
    assert said.endswith("; mend that, and the same command goes on from here")
    assert not (output / "manifest.json").exists()

    assert main(command(source, output)) == 0

    assert left(output, source) == expected


# ------------------------------------------------------------------- the output becomes read-only


def obey_modes() -> None:
    """Let a program that is started now by root be refused what others are."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0) == 0


def allow(output: Path, mode: int) -> None:
    for folder in (output, *(path for path in output.rglob("*") if path.is_dir())):
        folder.chmod(mode)


def test_an_output_that_becomes_read_only_stops_a_run_which_goes_on_when_it_is_not(
    source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", *command(source, output)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=obey_modes,  # noqa: PLW1509  # no other thread runs yet
    )
    done = output / "_work" / "done" / "Read"
    locking = when(lambda: any(done.glob("*.json")), lambda: allow(output, 0o555))
    said = process.communicate()[1].splitlines()
    locking.join()
    allow(output, 0o755)

    [sentence] = [line for line in said if line.startswith("altmill: ")]
    assert process.returncode == 2
    assert "Permission denied" in sentence
    assert sentence.endswith("; mend that, and the same command goes on from here")
    assert not (output / "manifest.json").exists()

    assert main(command(source, output)) == 0

    assert left(output, source) == expected


# --------------------------------------------------------------- a shard is replaced, or disappears


def replace(path: Path) -> None:
    write_tar(path, [("000020000.png", picture(999, 999)), ("000020000.txt", b"another photo")])


MISHAPS: dict[str, Callable[[Path], None]] = {"replaced": replace, "gone": Path.unlink}


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("stage", ["", "CountTexts"])
def test_a_shard_that_changes_under_a_run_is_named_and_nothing_is_made_of_it(
    stage: str, mishap: str, source: Path, tmp_path: Path
) -> None:
    output, shard = tmp_path / "out", source / "00002.tar"
    planned = plan(source, output)
    done = output / "_work" / "done" / stage
    changing = when(lambda: not stage or any(done.glob("*.json")), lambda: MISHAPS[mishap](shard))
    if not stage:
        changing.join()

    with pytest.raises(InputError) as error:
        run_filter(planned)
    changing.join()

    assert str(error.value).startswith(f"{shard} must stay as it was when the run began, ")
    assert not (output / "manifest.json").exists()


def test_a_shard_that_was_mended_is_read_again_and_no_other(
    source: Path, expected: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, shard = tmp_path / "out", source / "00002.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5000])
    os.utime(shard, ns=(10**18, 10**18))
    planned = plan(source, output)
    shard.unlink()
    with pytest.raises(InputError):
        run_filter(planned)
    done = output / "_work" / "done" / "Read"
    read = {path: path.stat().st_mtime_ns for path in done.glob("*.json")}
    shard.write_bytes(whole)
    os.utime(shard, ns=(10**18, 10**18))
    capsys.readouterr()
    assert main(command(source, output)) == 2
    assert capsys.readouterr().err == (
        f"altmill: input {source} must be as it was when the run in {output} began, got other "
        "files of shard 00002; add --retry-failed to read those again, or --overwrite\n"
    )

    again = when(
        lambda: len([*done.glob("*.json")]) == 4,
        lambda: read.update({path: path.stat().st_mtime_ns - at for path, at in read.items()}),
    )
    code = main(command(source, output, "--retry-failed"))
    again.join()

    assert code == 0
    assert [path.stem for path in sorted(read)] == ["00000", "00001"]
    assert {*read.values()} == {0}
    assert left(output, source) == expected


def test_what_was_counted_with_a_shard_that_changed_is_counted_again(
    source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output, shard = tmp_path / "out", source / "00002.tar"
    whole = shard.read_bytes()
    replace(shard)
    planned = plan(source, output)
    done = output / "_work" / "done" / "CountTexts"
    changing = when(lambda: any(done.glob("*.json")), shard.unlink)
    with pytest.raises(InputError):
        run_filter(planned)
    changing.join()
    shard.write_bytes(whole)
    os.utime(shard, ns=(10**18, 10**18))

    code = main(command(source, output, "--retry-failed"))

    assert code == 0
    assert left(output, source) == expected


def test_shards_are_not_written_of_an_input_that_is_another_by_now(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, shard = tmp_path / "out", source / "00002.tar"
    assert main(command(source, output, "--set", "materialise=false")) == 0
    state = shard.stat()
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    capsys.readouterr()

    code = main(["materialise", "--from", str(output), "--workers", "1"])

    assert code == 2
    assert capsys.readouterr().err.startswith(
        f"altmill: {shard} must be the file that the run was made of, of XXH3 "
    )
    assert not (output / "shards" / "sizes.json").exists()


# -------------------------------------------------------------------------------- what --resume is


def test_resume_begins_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"

    code = main(command(source, output, "--resume"))

    assert (code, capsys.readouterr().err) == (
        2,
        f"altmill: --resume must find an unfinished run in {output}, got none; leave it out to "
        "begin one\n",
    )
    assert files_of(output) == {}


def test_resume_goes_on_and_finds_what_is_complete(
    source: Path, expected: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, shard = tmp_path / "out", source / "00002.tar"
    planned = plan(source, output)
    state, whole = shard.stat(), shard.read_bytes()
    shard.unlink()
    with pytest.raises(InputError):
        run_filter(planned)
    shard.write_bytes(whole)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))

    codes = [main(command(source, output, "--resume")) for _ in range(2)]

    assert codes == [0, 0]
    assert f"going on with the unfinished run in {output}" in caplog.messages
    assert f"{output} is complete already: same recipe, input and code" in caplog.messages
    assert left(output, source) == expected


def test_there_is_nothing_to_retry_where_no_run_was_stopped(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"

    code = main(command(source, output, "--retry-failed"))

    assert (code, capsys.readouterr().err) == (
        2,
        "altmill: --retry-failed must find an unfinished run of the same recipe and code in "
        f"{output}, got none; leave it out\n",
    )


# -------------------------------------------------------------------------------------- clock skew


@pytest.mark.parametrize("skew_ns", [-(10**18), CENTURY_NS])
def test_no_clock_says_what_is_done(
    skew_ns: int, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output, shard = tmp_path / "out", source / "00003.tar"
    for path in source.iterdir():
        os.utime(path, ns=(10**18 + skew_ns, 10**18 + skew_ns))
    planned, whole = plan(source, output), shard.read_bytes()
    shard.unlink()
    with pytest.raises(InputError):
        run_filter(planned)
    shard.write_bytes(whole)
    os.utime(shard, ns=(10**18 + skew_ns, 10**18 + skew_ns))
    for path in _below(output):  # as if another machine had written it
        os.utime(path, ns=(10**18 - skew_ns // 2, 10**18 - skew_ns // 2))

    assert main(command(source, output)) == 0

    assert manifest_of(output)["rows_in"] == 320
    assert left(output, source) == expected


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
