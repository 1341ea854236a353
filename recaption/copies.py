"""Copies, on this machine, of what is in an object store."""

import atexit
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import xxhash

from recaption.store_clients import StoreError, telling

if TYPE_CHECKING:
    from recaption.stores import StorePath

_KEPT = 8
_FORGOTTEN_S = 86_400.0
_CHUNK_BYTES = 16 << 20
_SETTLING_S = 60.0
"""A process needs less to make its folder, or open a copy, and hold it."""
_DIGITS = 2
"""Of a copy's name, that its lock is called by: copies share 256 locks, which stay."""


def root() -> Path:
    """Return our folder for temporary files, which nobody else may write to."""
    folder = Path(tempfile.gettempdir()) / f"altmill-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
        raise StoreError(f"{folder} must be your own folder, got another's; set TMPDIR to one")
    return folder


class Copies:
    """The copies of objects that a process has, the last ones that it asked for."""

    def __init__(self) -> None:
        every = root() / "processes"
        every.mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=every))
        fcntl.flock(os.open(self._folder, os.O_RDONLY), fcntl.LOCK_EX)  # until the process ends
        atexit.register(_remove_own, os.getpid(), self._folder)
        _sweep(path for path in every.iterdir() if path != self._folder)
        self._known: OrderedDict[str, tuple[tuple[int, int], Path]] = OrderedDict()

    def new(self, path: "StorePath") -> Path:
        """Return a path for a file that is like an object."""
        self._folder.mkdir(exist_ok=True)
        return self._folder / f"{uuid4().hex[:8]}-{path.name[-64:]}"

    def drop(self, path: "StorePath") -> None:
        """Forget what an object was."""
        _, copy = self._known.pop(str(path), (None, None))
        if copy is not None:
            copy.unlink(missing_ok=True)

    def of(self, path: "StorePath") -> Path:
        """Return an object's copy, as it is now."""
        told = path.stat()
        if stat.S_ISDIR(told.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        state = (told.st_size, told.st_mtime_ns)
        before, copy = self._known.get(str(path), (None, None))
        if copy is None or before != state:
            self.drop(path)
            copy = self.new(path)
            fetch(path, copy)
        self._known[str(path)] = state, copy
        self._known.move_to_end(str(path))
        if len(self._known) > _KEPT:
            _, (_, oldest) = self._known.popitem(last=False)
            oldest.unlink(missing_ok=True)  # whoever has it open keeps it
        return copy


class Lent:
    """An object's copy, open for reading; processes of this machine have one together.

    It goes with the last of them that closes it; a killed one's, when another copy is made.
    """

    def __init__(self, path: "StorePath") -> None:
        folder = root() / "lent"
        folder.mkdir(exist_ok=True)
        self._copy = folder / f"{_state_of(path)}.copy"
        with self._alone():
            if not self._copy.exists():
                _sweep(folder.glob("*.copy"))
                part = copies(os.getpid()).new(path)
                fetch(path, part)
                part.replace(self._copy)
            os.utime(self._copy)  # that nobody sweeps it
            self._file = os.open(self._copy, os.O_RDONLY)
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._file

    def close(self) -> None:
        """Close it."""
        with self._alone():
            with suppress(BlockingIOError):  # another has it open
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._copy.unlink(missing_ok=True)
            os.close(self._file)

    def _alone(self) -> "AbstractContextManager[None]":
        return _locked(self._copy.with_name(f"{self._copy.name[:_DIGITS]}.lock"))


def fetch(path: "StorePath", to: Path) -> None:
    """Copy an object to a file.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It changes meanwhile, the store refuses, or there is no room here.
    """
    try:
        with telling(path), path.open_here() as source, to.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:  # a disk that is full is no damage of the object
        raise StoreError(
            f"{to.parent} must have room for a copy of {path}, got: {error.strerror}; make room, "
            "or set TMPDIR to another folder"
        ) from None
    if to.stat().st_size != (size := path.stat().st_size):
        raise StoreError(f"{path} must not change while it is read, got another size, {size:,}")


def share(path: "StorePath", digests: Path) -> Path:
    """Return a copy that all processes of this machine share; see `stores.shared`."""
    folder = root() / "shared"
    folder.mkdir(exist_ok=True)
    copy = folder / f"{_state_of(path)}.copy"
    with _locked(copy.with_suffix(".lock")):
        if not copy.exists():
            _forget(folder)
            part = copy.with_suffix(".part")
            fetch(path, part)
            _check_digest(path, part, digests)
            part.replace(copy)
        os.utime(copy)
    return copy


def share_folder(path: "StorePath", told_by: str) -> Path:
    """Return a copy of a folder that all processes share; see `stores.shared_folder`."""
    every = root() / "folders"
    every.mkdir(exist_ok=True)
    copy = every / _state_of(path / told_by)
    with _locked(copy.with_suffix(".lock")):
        if not copy.exists():
            _forget(every)
            part = copies(os.getpid()).new(path)
            for file in path.below():
                to = part / file.relative_to(path)
                to.parent.mkdir(parents=True, exist_ok=True)
                fetch(file, to)
            part.replace(copy)
        os.utime(copy)
    return copy


def _state_of(path: "StorePath") -> str:
    """Return 32 hexadecimal digits for an object as it is now."""
    told = path.stat()
    state = f"{path} {told.st_size} {told.st_mtime_ns}"
    return hashlib.sha256(state.encode()).hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_digest(path: "StorePath", copy: Path, digests: Path) -> None:
    told = json.loads(digests.read_bytes())[path.name]
    with copy.open("rb") as file:
        found = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    if found != told:
        raise StoreError(
            f"{path} must have the digest {told} of {digests.name}, got {found}; run filter again"
        )


def _forget(folder: Path) -> None:
    """Remove what nobody has asked for in a day; whoever has it mapped keeps it."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@cache
def copies(_: int) -> Copies:
    """Return a process's copies."""
    return Copies()


def _remove_own(process: int, folder: Path) -> None:
    if process == os.getpid():  # a forked one is not to
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(paths: Iterable[Path]) -> None:
    """Remove what killed processes left: nobody holds their folders and copies."""
    for path in paths:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < _SETTLING_S:
                continue
            held = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(held)
