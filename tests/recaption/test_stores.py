"""A path in an object store behaves as a path, and tells its errors in a sentence."""

import os
import pickle
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from recaption import copies
from recaption.files import read_json, replacing, write_json, write_text
from recaption.spans import spans
from recaption.store_clients import StoreError
from recaption.stores import StorePath, lend, readable, shared, to_path
from tests.serving import running
from tests.shards import write_parquet


@pytest.fixture
def others(store: StorePath, monkeypatch: pytest.MonkeyPatch) -> Iterator["Scripted"]:
    """Return a store that answers as a test wants."""
    del store
    with running(Scripted()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server


class Scripted(ThreadingHTTPServer):
    """A store with one object, and what goes wrong with it."""

    content = b""
    refusals: list[tuple[int, str]]
    """Status and code of the next answers; the object is sent when there are none left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refusals, self.asked, self.sent, self.broken = [], list[str](), 0, "nothing"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if self.server.broken in self.server.asked[-1]:
            return self._answer(403, b"")
        if self.server.refusals:
            status, code = self.server.refusals.pop(0)
            told = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            return self._answer(status, b"" if self.command == "HEAD" else told)
        if self.command == "POST" and self.path.endswith("?uploads="):
            return self._answer(200, b"<R><UploadId>1</UploadId></R>")
        content, status = self.server.content, 200
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            content, status = content[int(span[1]) : int(span[2]) + 1], 206
        return self._answer(status, content)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 15:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.server.sent += len(content)
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_an_object_is_written_whole_or_not_at_all(store: StorePath) -> None:
    path = store / "written"
    for before in (None, b"before"):
        with suppress(KeyboardInterrupt), replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
        assert (path.read_bytes() if path.exists() else None) == before
        write_text(path, "before")
    for wrongly in (lambda: path.open("w"), path.touch, lambda: path.write_text("x")):
        with pytest.raises(OSError, match="replacing alone"):
            wrongly()
    assert path.read_text() == "before"


def test_a_file_keeps_its_bytes_whatever_its_name(store: StorePath, store_url: str) -> None:
    path = store / "a.warc.gz"
    write_text(path, "not compressed")

    with closing(boto3.client("s3", endpoint_url=store_url)) as other:
        stored = other.get_object(Bucket=path.parts[1], Key="/".join(path.parts[2:]))
        assert stored["Body"].read() == path.read_bytes() == b"not compressed"
    with path.open() as file:
        assert file.read() == "not compressed"


def test_a_path_is_taken_apart_as_any_other() -> None:
    path = to_path("s3://bucket/a//b.c.tar")

    assert str(path) == f"{path}" == path.as_posix() == "s3://bucket/a/b.c.tar"
    assert (path.name, path.stem, path.suffix) == ("b.c.tar", "b.c", ".tar")
    assert str(path.parent / "x") == "s3://bucket/a/x"
    assert path.relative_to(StorePath("s3://bucket")).as_posix() == "a/b.c.tar"
    assert path.absolute() == path.resolve() == pickle.loads(pickle.dumps(path)) == path
    assert not path.is_relative_to(Path.cwd())
    assert type(to_path("a/b")) is type(Path())


@pytest.mark.parametrize("text", ["abfs://a/b", "s3:///b", "hdfs:///b", "://b"])
def test_a_store_that_is_not_known_is_said(text: str) -> None:
    with pytest.raises(StoreError, match=re.escape(text)):
        to_path(text)


def test_what_is_opened_is_a_copy_of_what_is_there_now(store: StorePath) -> None:
    folder = Path(tempfile.gettempdir())
    for number in range(12):
        path = store / "copies" / f"{number}.npy"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.arange(number))
        assert len(np.load(path, mmap_mode="r")) == number
    assert len(list(folder.glob("altmill-*/processes/*/*"))) <= 8

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.arange(11)[::-1])
    assert np.load(path)[0] == 10
    with pytest.raises(IsADirectoryError):
        path.parent.open("rb")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{store}/nothing")):
        (store / "nothing").open("rb")


def test_what_killed_processes_left_is_removed(store: StorePath) -> None:
    del store
    every = copies.root() / "processes"
    left, new = every / "left", every / "new"
    for folder, ago in ((left, 3600), (new, 0)):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - ago,) * 2)
    held = copies.Copies()

    copies.Copies()

    assert not left.exists()
    assert new.exists()
    assert held.new(StorePath("s3://bucket/x")).parent.exists()


def test_processes_share_a_copy_that_has_its_digest(store: StorePath) -> None:
    write_text(store / "t" / "a.npy", "abc")
    write_json(store / "t" / "digests.json", {"a.npy": "06b05ab6733a618578af5f94892f3950"})
    copy = shared(store / "t" / "a.npy", store / "t" / "digests.json")
    again = shared(store / "t" / "a.npy", store / "t" / "digests.json")
    assert copy == again
    assert copy.read_text() == "abc"

    write_text(store / "t" / "a.npy", "abcd")
    with pytest.raises(StoreError, match="must have the digest 06b05ab6733a618578af5f94892f3950"):
        shared(store / "t" / "a.npy", store / "t" / "digests.json")


def test_a_copy_is_lent_to_all_that_read_at_once_and_goes_with_the_last(
    store: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fetched = store / "lent" / "0.tar", list[StorePath]()
    write_text(path, "abc")
    fetch = copies.fetch
    monkeypatch.setattr(copies, "fetch", lambda of, to: (fetched.append(of), fetch(of, to)))
    folder = copies.root() / "lent"

    for _ in range(2):
        first, second = lend(path), lend(path)
        first.close()
        assert os.pread(second.fileno(), 9, 1) == b"bc"
        assert len(list(folder.glob("*.copy"))) == 1
        second.close()
        assert not list(folder.glob("*.copy"))
    assert fetched == [path, path]

    ours = lend(path)
    write_text(path, "defg")
    theirs = lend(path)
    assert [os.pread(one.fileno(), 9, 0) for one in (ours, theirs)] == [b"abc", b"defg"]
    for one in (ours, theirs):
        one.close()


def test_a_copy_that_killed_processes_were_lent_goes_when_another_comes(store: StorePath) -> None:
    for name in ("held", "other"):
        write_text(store / "lent" / name, name)
    held = lend(store / "lent" / "held")
    folder = copies.root() / "lent"
    (folder / "left.copy").write_text("")
    for path in folder.glob("*.copy"):
        os.utime(path, (time.time() - 3600,) * 2)

    lend(store / "lent" / "other").close()

    assert not (folder / "left.copy").exists()
    assert len(list(folder.glob("*.copy"))) == 1
    held.close()


def test_a_disk_that_is_full_is_said(store: StorePath) -> None:
    write_text(store / "full", "abc")

    with pytest.raises(StoreError, match=r"/dev must have room for a copy of .*got: No space left"):
        copies.fetch(store / "full", Path("/dev/full"))


def test_a_damaged_file_is_told_from_a_store_that_is_out_of_reach(others: Scripted) -> None:
    others.content = b"PAR1" + bytes(100)
    with pytest.raises(pa.ArrowInvalid):
        pq.ParquetFile(spans(StorePath("s3://bucket/t.parquet")))

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": np.arange(100_000)}), sink, row_group_size=50_000)
    others.content = sink.getvalue().to_pybytes()
    file = pq.ParquetFile(spans(StorePath("s3://bucket/t.parquet")))
    assert file.read_row_group(0).num_rows == 50_000
    others.refusals = [(403, "AccessDenied")] * 99
    with pytest.raises(StoreError, match="must be within reach, got ACCESS_DENIED"):
        file.read_row_group(1)


def test_a_column_is_read_without_the_others(others: Scripted, tmp_path: Path) -> None:
    wide = np.random.default_rng(0).bytes(3_000_000)
    table = pa.table({"a": [1, 2, 3], "wide": [wide[at::3] for at in range(3)]})
    pq.write_table(table, tmp_path / "t.parquet")
    others.content = (tmp_path / "t.parquet").read_bytes()

    read = pq.read_table(readable(StorePath("s3://bucket/t.parquet")), columns=["a"])

    assert read["a"].to_pylist() == [1, 2, 3]
    assert 0 < others.sent < len(others.content) / 5


def test_a_store_that_is_busy_is_asked_again(others: Scripted) -> None:
    others.content = b'{"a": 1}'
    others.refusals = [(503, "SlowDown")] * 2

    assert read_json(StorePath("s3://bucket/a.json")) == {"a": 1}

    assert len(others.asked) >= 4


def test_an_upload_that_breaks_off_leaves_nothing(others: Scripted) -> None:
    path = StorePath("s3://bucket/large")
    part = "PUT /bucket/large?partNumber=2"

    def break_off() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(bytes(25 << 20))
            others.broken = part

    with pytest.raises(StoreError, match="s3://bucket/large must be within reach"):
        break_off()

    assert any(asked.startswith(part) for asked in others.asked)
    assert not [asked for asked in others.asked if asked.startswith("POST /bucket/large?uploadId")]


@pytest.mark.parametrize("what", ["denied", "refused"])
def test_what_is_wrong_with_a_store_is_one_sentence(
    what: str,
    others: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    others.refusals = [(403, "AccessDenied")] * 99
    told = "ACCESS_DENIED"
    if what == "refused":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        told = "NETWORK_CONNECTION"
    began = time.monotonic()

    code = main(["filter", "--input", "s3://bucket/crawl", "--output", str(tmp_path / "out")])

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("altmill: s3://bucket/crawl must be within reach, got ")
    assert told in said
    assert said.count("\n") == 1
    assert time.monotonic() - began < 60
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_is_not_there_is_said(
    store: StorePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del store
    write_parquet(tmp_path / "0.parquet", {"url": ["u"], "caption": ["a red shoe"]})

    assert main(["filter", "--input", str(tmp_path), "--output", "s3://other/out"]) == 2

    assert "NO_SUCH_BUCKET" in capsys.readouterr().err
