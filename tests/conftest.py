"""What all tests share; a sample corpus and a finished run over it are made once."""

import itertools
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pipelines import local
from pipelines.commands import main
from pipelines.sample import write_sample
from recaption import copies
from recaption.stores import StorePath
from tests import object_store

SAMPLE_ROWS = 600

settings.register_profile("altmill", deadline=None)  # that a machine is busy is no defect
settings.load_profile("altmill")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a sample corpus; not to be changed."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, rows=SAMPLE_ROWS, seed=0)
    return folder


@pytest.fixture(scope="session")
def filtered(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a filter run over the sample, by the recipe `align`."""
    output = tmp_path_factory.mktemp("filtered") / "out"
    code = main(["filter", "--input", str(sample), "--output", str(output), "--workers", "1"])
    assert code == 0
    return output


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """Return the URL of a server with a bucket."""
    with object_store.serving("bucket") as url:
        yield url


@pytest.fixture(scope="module")
def store(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorePath]:
    """Return a folder in it, while that server is this process's store; copies are elsewhere."""
    scratch = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.environment(store_url, scratch).items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(scratch))
        local._pool.cache_clear()  # noqa: SLF001  # its processes have the environment of before
        yield StorePath("s3://bucket") / scratch.name


@pytest.fixture
def elsewhere(
    store: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Return what makes this another machine: nothing that is here is known to it."""
    del store
    machines = itertools.count()

    def move() -> None:
        scratch = tmp_path / f"machine-{next(machines)}"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        copies.copies.cache_clear()

    yield move
    copies.copies.cache_clear()


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let nothing out of this machine; hosts that end in .example are here, others are unknown.

    Yields:
        The addresses that were connected to.
    """
    connected: list[str] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def checked(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        if address[0] != "127.0.0.1":
            raise OSError("not in a test")
        connect(self, address)

    def near(host: str, *options: Any, **more: Any) -> Any:
        host.encode("idna")  # as it does
        if not host.endswith(".example"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return resolve("127.0.0.1", *options, **more)

    monkeypatch.setattr(socket.socket, "connect", checked)
    monkeypatch.setattr(socket, "getaddrinfo", near)
    yield connected
    assert {*connected} <= {"127.0.0.1"}
