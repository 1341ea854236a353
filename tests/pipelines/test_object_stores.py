"""Every job does in an object store what it does in a folder."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from pipelines.doctor import diagnose, told
from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter
from recaption.stores import StorePath
from tests.archives import HTML_TYPE, page, write_warc
from tests.outputs import files_of
from tests.pipelines.downloads import download, members_of
from tests.pipelines.web import sends, serving
from tests.shards import photo, picture, write_shard

ROOT = Path(__file__).parents[2]
WORDS = ("red", "blue", "shoe", "dog", "cat", "photo", "of", "grass", "a", "the")
CHANGES = ["--set", "materialise=true", "--set", "rules.ngram_rank.max_inclusive=500"]
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def crawl(store: StorePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of shards, which is in the store as well; not to be changed."""
    folder, chance = tmp_path_factory.mktemp("source") / "crawl", random.Random(5)
    images = [picture(201 + n, 300) for n in range(20)]
    for shard in range(3):
        pairs = [
            (f"{shard:05d}{row:04d}", chance.choice(images), " ".join(chance.choices(WORDS, k=4)))
            for row in range(40)
        ]
        write_shard(folder / f"{shard:05d}", pairs)
    (store / "crawl").put_tree(folder)
    return folder


@pytest.fixture(scope="module")
def here(crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run from folder to folder; not to be changed."""
    output = tmp_path_factory.mktemp("here") / "out"
    run_job("filter", "--input", crawl, "--output", output, *CHANGES, "--workers", "1")
    return output


@pytest.fixture(scope="module")
def there(store: StorePath, crawl: Path) -> StorePath:
    """Return that of the same run from store to store; not to be changed."""
    del crawl
    output = store / "out"
    paths = ("--input", store / "crawl", "--output", output)
    run_job("filter", *paths, *CHANGES, "--workers", "2")
    return output


def run_job(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def contents(output: Path, **named: Path) -> dict[str, bytes]:
    """Return what a run left, with names for the folders that it tells of."""
    found = files_of(output)
    for name, folder in named.items():
        old, new = str(folder).encode(), name.encode()
        found = {path: content.replace(old, new) for path, content in found.items()}
    return found


def test_a_run_from_store_to_store_leaves_the_bytes_of_one_from_folder_to_folder(
    crawl: Path, store: StorePath, here: Path, there: StorePath
) -> None:
    expected = contents(here, crawl=crawl, out=here)

    assert len(expected) > 20
    assert contents(there, crawl=store / "crawl", out=there) == expected
    assert not list(Path(tempfile.gettempdir()).glob("altmill-*/work/*/*"))


def test_workers_on_other_machines_meet_in_the_store(
    crawl: Path, store: StorePath, there: StorePath
) -> None:
    del crawl
    source, output = store / "crawl", store / "native"
    recipe = read_recipe("align", [change for change in CHANGES if change != "--set"])
    plan = plan_filter(str(source), output, recipe, workers=2, carrier="native")

    run_filter(plan, ["--direct_runner_bundle_repeat=1"])

    found = contents(output, crawl=source, out=output)
    assert found == contents(there, crawl=source, out=there)


def test_a_run_that_is_stopped_while_it_sends_goes_on(
    crawl: Path, store: StorePath, there: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    del crawl
    output, sent = store / "stopped", list[StorePath]()
    command = ["filter", "--input", f"{store}/crawl", "--output", str(output), *CHANGES]
    put = StorePath.put

    def send(self: StorePath, file: Path) -> None:
        sent.append(self)
        if self.name == stopping_at and self.parent.name == "columns":
            raise KeyboardInterrupt
        put(self, file)

    monkeypatch.setattr(StorePath, "put", send)
    stopping_at = "00001.parquet"
    assert main([*command, "--workers", "1"]) == 130
    stopping_at = ""
    assert main([*command, "--workers", "1"]) == 0

    columns = output / "columns"
    assert [sent.count(columns / f"0000{shard}.parquet") for shard in range(3)] == [1, 2, 1]
    assert contents(output, crawl=store / "crawl", out=output) == contents(
        there, crawl=store / "crawl", out=there
    )


@pytest.mark.slow
def test_a_killed_run_goes_on(crawl: Path, store: StorePath, there: StorePath) -> None:
    output = store / "killed"
    paths = ("--input", store / "crawl", "--output", output)
    command = [str(word) for word in ("filter", *paths, *CHANGES, "--workers", "2")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", *command], cwd=ROOT, start_new_session=True
    )
    scratch = Path(tempfile.gettempdir())
    wait_until(lambda: any(scratch.glob("altmill-*/work/*/done/Measure/*.json")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    measured = [path.stat().st_mtime_ns for path in (output / "columns").iterdir()]

    assert main(command) == 0

    assert contents(output, crawl=store / "crawl", out=output) == contents(
        there, crawl=store / "crawl", out=there
    )
    again = [path.stat().st_mtime_ns for path in (output / "columns").iterdir()]
    assert any(time in again for time in measured)
    del crawl


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


# --------------------------------------------------------------------------------------- other jobs


def test_other_jobs_leave_and_say_the_same(
    crawl: Path,
    store: StorePath,
    here: Path,
    there: StorePath,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uid = pq.read_table(here / "decisions" / "00001.parquet")["uid"][7].as_py()
    said = []
    for run, decided in ((here, tmp_path / "decided"), (there, store / "decided")):
        before = files_of(run)
        recipe = ("--recipe", "datacomp-basic", "--set", "materialise=true")
        run_job("decide", "--from", run, "--output", decided, *recipe, "--workers", "1")
        run_job("explain", uid, "--from", run)
        run_job("materialise", "--from", run, "--workers", "1")
        run_job("report", "--from", run)
        options = ("--output", decided / "changes", "--workers", "1")
        assert main([str(word) for word in ("diff", run, decided, *options)]) == 1
        printed = capsys.readouterr().out
        said.append(printed.replace(str(decided), "decided").replace(str(run), "run"))
        assert files_of(run) == before

    assert said[0] == said[1]
    ours = contents(store / "decided", crawl=store / "crawl", out=store / "decided", run=there)
    theirs = contents(tmp_path / "decided", crawl=crawl, out=tmp_path / "decided", run=here)
    pages = [found.pop("changes/index.html") for found in (ours, theirs)]  # it shortens paths
    assert ours == theirs
    assert pages[0].count(b"data:image/") == pages[1].count(b"data:image/") > 0


def test_the_doctor_says_the_same(crawl: Path, store: StorePath) -> None:
    for pattern in ("", "/{00000..00003}.tar", "/*.tar"):
        ours, theirs = (diagnose([f"{place}{pattern}"]) for place in (store / "crawl", crawl))
        examples = [
            [finding.example.rpartition("/")[2] for finding in one.findings]
            for one in (ours, theirs)
        ]
        assert examples[0] == examples[1]
        assert told(ours).count("\n") == told(theirs).count("\n")
        assert (ours.pairs, ours.samples) == (theirs.pairs, theirs.samples) == (120, 120)


def test_pairs_are_extracted_and_their_images_downloaded(store: StorePath, tmp_path: Path) -> None:
    with serving({f"/{n}.jpg": sends(photo(n)) for n in range(4)}) as web:
        images = [(web.url(f"/{n}.jpg"), f"the picture number {n}") for n in range(5)]
        body = page(*images)
        write_warc(tmp_path / "a.warc.gz", [("https://a.example", HTML_TYPE, body)])
        (store / "pages").put_tree(tmp_path)
        run_job("extract", "--input", store / "pages", "--out", store / "pairs", "--workers", "1")
        assert download(store / "pairs", store / "shards") == 0
        (tmp_path / "pairs").mkdir()
        for path in (store / "pairs").glob("*.parquet"):
            (tmp_path / "pairs" / path.name).write_bytes(path.read_bytes())
        assert download(tmp_path / "pairs", tmp_path / "shards") == 0
        assert download(store / "pairs", store / "shards", "--retry-failed") == 0

    for name in ("00000.tar", "00000.parquet"):
        ours, theirs = store / "shards" / name, tmp_path / "shards" / name
        assert ours.read_bytes() == theirs.read_bytes()
    assert len(members_of(tmp_path / "shards")) == 12


LOCAL = ("sample --images s3://bucket/x --output x", "takedown --from s3://bucket/out")


@pytest.mark.parametrize("command", LOCAL)
def test_jobs_of_this_machine_say_so(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as ended:
        main(command.split())

    assert ended.value.code == 2
    assert "must be on this machine, got s3://bucket/" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
