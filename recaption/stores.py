"""Paths in object stores, `s3://`, `gs://` and `hdfs://`, which may stand where a `Path` does.

The simplest shape that we found: a `StorePath` is a `pathlib.Path` that asks Arrow's file systems
what is there, and whoever opens it as a file opens a copy on this machine.  So tars are mapped
into memory and tables read as ever, each shard comes over the network once for each time it is
read, and `recaption.files.replacing`, through which everything is written, sends what was written
here.  An object appears when it is whole, or not at all.

The other two shapes: fsspec's `UPath` has no file to map, is not what Arrow, NumPy and `tarfile`
open, and needs three packages; opening streams in each place that reads, sixty of them, reads a
tar member by member over the network.  Arrow's file systems are in its wheel.
"""

import errno
import fnmatch
import hashlib
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO, UnsupportedOperation
from pathlib import Path, PosixPath
from typing import Any, NoReturn
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from recaption.copies import Lent, copies, root, share, share_folder
from recaption.store_clients import CLIENTS, StoreError, file_system, telling

_SENT_AT_ONCE = 8
_AS_IT_IS: dict[str, Any] = {"compression": None}
"""Of itself Arrow would compress what is called .gz."""


class StorePath(PosixPath):
    """A path in an object store, such as `s3://bucket/crawl/00000.tar`.

    What would change a file in place is not there: write through `recaption.files.replacing`.
    """

    __slots__ = ()

    def __str__(self) -> str:
        scheme, found, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if found and scheme in CLIENTS else scheme + found + rest

    def __fspath__(self) -> str:
        """Return the path of a copy on this machine; it stays while this process needs few."""
        return str(copies(os.getpid()).of(self))

    @property
    def _place(self) -> tuple[fs.FileSystem, str]:
        """The file system, and what it calls this path."""
        scheme, place, *rest = self.parts
        key = "/".join(rest)
        inside = f"/{key}" if scheme == "hdfs:" else f"{place}/{key}".rstrip("/")
        host = place if scheme == "hdfs:" else ""
        with telling(self):
            return file_system(scheme.removesuffix(":"), host), inside

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return kind, size and time; of an object that is not there, raise as a file would."""
        del follow_symlinks
        return stat_all([self])[0]

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind(follow_symlinks) != 0

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind(follow_symlinks) == stat.S_IFREG

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind(follow_symlinks) == stat.S_IFDIR

    def _kind(self, follow_symlinks: bool) -> int:
        try:
            return stat.S_IFMT(self.stat(follow_symlinks=follow_symlinks).st_mode)
        except FileNotFoundError:
            return 0

    def absolute(self) -> "StorePath":
        return self

    def resolve(self, strict: bool = False) -> "StorePath":
        del strict
        return self

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a folder is there when something is in it."""

    def iterdir(self) -> Generator["StorePath", None, None]:
        yield from self.below(recursive=False)

    def below(self, *, recursive: bool = True) -> Iterator["StorePath"]:
        """Yield the files below, with `recursive`, or else what is right below."""
        system, inside = self._place
        with telling(self):
            selector = fs.FileSelector(inside, allow_not_found=True, recursive=recursive)
            found = system.get_file_info(selector)
        root = len(inside.rstrip("/")) + 1
        for info in sorted(found, key=lambda info: info.path):
            if not recursive or info.type == fs.FileType.File:
                yield self / info.path[root:]

    def glob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:  # type: ignore[override]
        """Yield what right below is called like a pattern."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:  # type: ignore[override]
        """Yield the files below that are called like a pattern."""
        return (path for path in self.below() if fnmatch.fnmatchcase(path.name, pattern))

    def open(self, mode: str = "r", *args: Any, **more: Any) -> Any:
        """Open a copy for reading."""
        if not set(mode) <= set("rbt"):
            self._refuse()
        return super().open(mode, *args, **more)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise UnsupportedOperation(f"{self} can be written by recaption.files.replacing alone")

    touch = rename = replace = rmdir = _refuse

    def read_bytes(self) -> bytes:
        system, inside = self._place
        with telling(self), system.open_input_stream(inside, **_AS_IT_IS) as source:
            content: bytes = source.read()
        return content

    def read_text(self, encoding: str | None = None, errors: str | None = None, **_: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def unlink(self, missing_ok: bool = False) -> None:
        system, inside = self._place
        try:
            with telling(self):
                system.delete_file(inside)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self) -> None:
        """Remove a file, or a folder with all that is in it; nothing, if it is not there."""
        system, inside = self._place
        if self.is_dir():
            with suppress(FileNotFoundError), telling(self):
                system.delete_dir(inside)
        else:
            self.unlink(missing_ok=True)

    def open_here(self) -> pa.NativeFile:
        """Open for reading at any place, without a copy."""
        system, inside = self._place
        with telling(self):
            return system.open_input_file(inside)

    def put(self, file: Path) -> None:
        """Write a file of this machine to this path, whole or not at all.

        It is handed over at once: a stream that an error or Ctrl-C closes would be complete to the
        store.  On HDFS, where a file is seen while it is written, it gets its name at the end.
        """
        system, inside = self._place
        hdfs = self.parts[0] == "hdfs:"
        part = f"{inside}.{uuid4().hex[:8]}.part" if hdfs else inside
        with telling(self):
            with (
                pa.memory_map(str(file)) as source,
                system.open_output_stream(part, **_AS_IT_IS) as sink,
            ):
                sink.write(source.read_buffer())
            if hdfs:
                system.move(part, inside)

    def put_tree(self, tree: Path) -> None:
        """Write a file, or the files of a folder, to this path."""
        files = [path for path in tree.rglob("*") if path.is_file()] if tree.is_dir() else [tree]
        with ThreadPoolExecutor(_SENT_AT_ONCE) as pool:
            for _ in pool.map(lambda file: (self / file.relative_to(tree)).put(file), files):
                pass


def to_path(text: str) -> Path:
    """Return the path that a text names, of this machine or of an object store.

    Raises:
        StoreError: It is of a store that we do not know, or names no bucket.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        return Path(text)
    if scheme not in CLIENTS:
        known = ", ".join(f"{one}://" for one in CLIENTS)
        raise StoreError(f"{text} must be a path or begin with {known}, got {scheme}://; copy it")
    if not rest.partition("/")[0]:
        what = "a host" if scheme == "hdfs" else "a bucket"
        raise StoreError(f"{text} must name {what}, got none; write {scheme}://NAME/PATH")
    return StorePath(text)


def readable(path: Path) -> Any:
    """Return what Arrow reads a file from; of an object only what it needs comes over."""
    return path.open_here() if isinstance(path, StorePath) else path


def lend(path: Path) -> FileIO | Lent:
    """Open a file to read at any place; an object's copy is one for all processes of this machine.

    It comes over once while any of them has it open.
    """
    return Lent(path) if isinstance(path, StorePath) else FileIO(path)


def stat_all(paths: Sequence[Path]) -> list[os.stat_result]:
    """Return what `Path.stat` does of each path; those of a store are asked for at once.

    Raises:
        FileNotFoundError: One is not there.
    """
    if not isinstance(next(iter(paths), None), StorePath):
        return [path.stat() for path in paths]
    places = [path._place for path in paths if isinstance(path, StorePath)]  # noqa: SLF001
    with telling(paths[0]):
        found = places[0][0].get_file_info([inside for _, inside in places])
    return [_stat(path, info) for path, info in zip(paths, found, strict=True)]


def _stat(path: Path, info: fs.FileInfo) -> os.stat_result:
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    kind = stat.S_IFREG if info.type == fs.FileType.File else stat.S_IFDIR
    at = info.mtime_ns or 0
    seconds = at // 1_000_000_000
    values = (kind | 0o644, 0, 0, 1, 0, 0, info.size or 0, seconds, seconds, seconds)
    return os.stat_result(values, {"st_mtime_ns": at})


# ---------------------------------------------------------------------------------- on this machine


def shared(path: Path, digests: Path) -> Path:
    """Return a file for all processes of this machine to map: an object's copy that they share.

    Args:
        path: The file, or the object.
        digests: JSON of the xxh3 of each file beside it, by their names.

    Raises:
        StoreError: The copy has another digest.
    """
    return share(path, digests) if isinstance(path, StorePath) else path


def shared_folder(path: Path, told_by: str) -> Path:
    """Return a folder for all processes of this machine to map files of: one of a store's copy.

    Args:
        path: The folder.
        told_by: The name of a file in it that is another one when anything in it is.
    """
    return share_folder(path, told_by) if isinstance(path, StorePath) else path


def scratch(folder: Path) -> Path:
    """Return where, on this machine, the work on a folder is done: in it, if it is here."""
    if not isinstance(folder, StorePath):
        return folder / "_work"
    return root() / "work" / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def working(path: Path) -> Path:
    """Return where a file is kept that is good for this process alone: there, if that is here."""
    return copies(os.getpid()).new(path) if isinstance(path, StorePath) else path


@contextmanager
def sending(path: StorePath) -> Iterator[Path]:
    """Yield a path on this machine; what is there in the end is sent, if all went well."""
    temporary = copies(os.getpid()).new(path)
    try:
        yield temporary
        path.put(temporary)
        copies(os.getpid()).drop(path)
    finally:
        temporary.unlink(missing_ok=True)
