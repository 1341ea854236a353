"""A download from end to end: its account, going on, asking again, and what is refused."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from pipelines.spool import Spool
from tests.pipelines.downloads import (
    LOOPBACK,
    download,
    errors_of,
    members_of,
    rows_of,
    stats_of,
    write_list,
)
from tests.pipelines.web import in_turn, sends, serving, status, waits
from tests.shards import photo, write_parquet

pytestmark = pytest.mark.usefixtures("guarded")

JPEG = photo(1)


def test_statistics_and_the_last_words_name_each_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {"/a": sends(JPEG), "/broken": sends(b"\xff\xd8\xff" + b"x" * 999)}
    with serving(pages) as web:
        urls = [web.url("/a"), web.url("/b"), web.url("/c"), web.url("/broken")]
        before = time.time()

        download(write_list(tmp_path / "in", urls), tmp_path / "out")

    stats = stats_of(tmp_path / "out")
    assert before <= stats["start_time"] <= stats["end_time"] <= time.time()
    assert stats.pop("duration") == stats.pop("end_time") - stats.pop("start_time")
    assert stats == {
        "count": 4,
        "successes": 1,
        "failed_to_download": 2,
        "failed_to_resize": 1,
        "status_dict": {"http_404": 2, "success": 1, "image_undecodable": 1},
    }
    assert capsys.readouterr().out == (
        "           4          rows in\n"
        "          -2   50.0%  http_404\n"
        "          -1   25.0%  image_undecodable\n"
        "           1   25.0%  downloaded\n"
        "\n"
        f"shards: {tmp_path / 'out'}\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--timeout-s", "0"), "timeout_s must be above 0, got 0.0; correct it"),
        (("--shard-rows", "0"), "shard_rows must be at least 1, got 0; correct it"),
        (("--shorter-side", "0"), "shorter_side_px must be at least 1, got 0; correct it"),
        (
            ("--allow-network", "10.0.0.1/8"),
            "--allow-network must be a network such as 10.0.0.0/8, got: 10.0.0.1/8 has host bits "
            "set; correct it",
        ),
        (
            ("--column", "url=link"),
            "columns.url must name a column of the input, got 'link', which {input}/list.parquet "
            "lacks; its columns are text, url",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_list(tmp_path / "in", ["http://a.example/"])

    code = download(source, tmp_path / "out", *options)

    assert (code, capsys.readouterr().err) == (2, f"altmill: {message.format(input=source)}\n")
    assert not (tmp_path / "out").exists()


def test_a_list_without_urls_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", {"text": ["a"]})

    assert download(tmp_path / "in", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"altmill: {tmp_path / 'in' / 'a.parquet'} must be parquet with a column of URLs, got "
        "text; name it: --column url=NAME\n"
    )


def shards_of(output: Path) -> dict[str, bytes]:
    """Return all that a download leaves but the statistics, which have a clock."""
    paths = [*output.glob("*.tar"), *output.glob("*.parquet"), output / "sizes.json"]
    return {path.name: path.read_bytes() for path in paths}


# A shell has jobs in the background, such as the tests may be, ignore interrupts
HEEDING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pipelines.commands import main
if __name__ == "__main__":
    sys.exit(main())
"""


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a download with two processes, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", HEEDING, "download", *arguments, *LOOPBACK, "--workers", "2"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_when(ready: Callable[[], bool], arguments: list[str]) -> None:
    """Start a download, and kill all its processes in the midst of it."""
    process = start(arguments)
    end = time.monotonic() + 60
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_download_goes_on_without_asking_twice(tmp_path: Path) -> None:
    go = Event()
    quick = {f"/{n}": sends(photo(n, 80, 60)) for n in range(20)}
    late = {f"/late{n}": waits(go, sends(photo(20 + n, 80, 60))) for n in range(4)}
    with serving(quick | late) as web:
        first, second, third = [*quick][:10], [*quick][10:18], [*quick][18:]
        paths = [*first, *[*late][:2], *second, *[*late][2:], *third, "/missing"]
        source = write_list(tmp_path / "in", [web.url(path) for path in paths])
        options, killed = ["--shard-rows", "10", "--shorter-side", "50"], tmp_path / "killed"

        def halfway() -> bool:
            spools = [killed / "_download" / name for name in ("00001.spool", "00002.spool")]
            rows = [path.exists() and path.read_bytes().count(b'"status"') for path in spools]
            return (killed / "00000_stats.json").exists() and rows == [len(second), len(third) + 1]

        kill_when(halfway, ["--input", str(source), "--output", str(killed), *options])
        before = web.times_asked
        go.set()
        assert download(source, killed, *options) == 0
        assert web.times_asked - before == Counter([*late])
        assert download(source, tmp_path / "unbroken", *options) == 0

    assert [row["url"] for row in rows_of(killed)] == [web.url(path) for path in paths]
    assert errors_of(killed) == [None] * 24 + ["http_404"]
    assert shards_of(killed) == shards_of(tmp_path / "unbroken")
    assert list((killed / "_download").iterdir()) == [killed / "_download" / "plan.json"]


def test_it_stops_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    go = Event()
    with serving({"/a": waits(go, sends(JPEG))}) as web:
        source = write_list(tmp_path / "in", [web.url("/a")] * 2)
        options = ["--shard-rows", "1", "--timeout-s", "60"]
        process = start(["--input", str(source), "--output", str(tmp_path / "out"), *options])
        while web.times_asked["/a"] < 2:
            assert process.poll() is None
            time.sleep(0.01)

        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130
        go.set()
        assert download(source, tmp_path / "out", "--shard-rows", "1") == 0
    assert errors_of(tmp_path / "out") == [None, None]


def test_what_is_complete_is_not_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", [web.url("/a"), web.url("/b")])
        download(source, tmp_path / "out")
        first, asked = capsys.readouterr().out, web.times_asked

        download(source, tmp_path / "out")

        assert web.times_asked == asked
    assert capsys.readouterr().out == first


def test_retry_failed_asks_for_what_failed_and_nothing_else(tmp_path: Path) -> None:
    pages = {f"/{n}": sends(photo(n)) for n in range(5)}
    pages |= {"/1": in_turn(status(404), pages["/1"]), "/3": in_turn(status(403), pages["/3"])}
    with serving(pages) as web:
        urls = [web.url(path) for path in (*pages, "/missing")]
        source, options = write_list(tmp_path / "in", urls), ("--shard-rows", "2")
        download(source, tmp_path / "out", *options)
        assert errors_of(tmp_path / "out") == [None, "http_404", None, "http_403", None, "http_404"]
        before = web.times_asked

        code = download(source, tmp_path / "out", "--retry-failed", *options)

        assert code == 0
        assert web.times_asked - before == {"/1": 1, "/3": 1, "/missing": 1}
        download(source, tmp_path / "fresh", *options)
    assert shards_of(tmp_path / "out") == shards_of(tmp_path / "fresh")
    assert stats_of(tmp_path / "out", "00001")["status_dict"] == {"success": 2}


def test_a_killed_retry_keeps_what_there_was_and_goes_on(tmp_path: Path) -> None:
    go = Event()
    pages = {"/a": sends(JPEG), "/b": in_turn(status(404), waits(go, sends(photo(2))))}
    with serving(pages) as web:
        source, output = write_list(tmp_path / "in", [web.url("/a"), web.url("/b")]), tmp_path / "o"
        download(source, output)
        before = shards_of(output)
        arguments = ["--input", str(source), "--output", str(output), "--retry-failed"]

        kill_when(lambda: web.times_asked["/b"] == 2, arguments)

        assert shards_of(output) == before
        go.set()
        download(source, output)
        assert web.times_asked["/a"] == 1
    assert errors_of(output) == [None, None]
    assert [*members_of(output)][::3] == ["000000000.jpg", "000000001.jpg"]


def test_another_download_into_the_same_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", [web.url("/a")])
        download(source, tmp_path / "out")
        before = shards_of(tmp_path / "out")
        capsys.readouterr()

        code = download(source, tmp_path / "out", "--shorter-side", "9")

    assert (code, capsys.readouterr().err) == (
        2,
        f"altmill: output {tmp_path / 'out'} must be empty or hold the same download, got "
        "00000.parquet of another input, size or number of rows; choose another folder\n",
    )
    assert shards_of(tmp_path / "out") == before


def test_a_full_disk_stops_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", [web.url("/a")])
        monkeypatch.setattr(Spool, "add", full)
        code = download(source, tmp_path / "out")
        monkeypatch.undo()

        assert (code, capsys.readouterr().err) == (
            2,
            "altmill: [Errno 28] No space left on device; mend that, and the same command goes on "
            "from here\n",
        )
