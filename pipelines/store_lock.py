"""Hold an output folder in an object store, so that one run at a time writes to it.

A run puts an object of its own into `_lock/`, lists what is there, and goes on if it is alone; it
writes the object again now and then.  So two runs never both go on, as long as the store lists what
was written (S3, GCS and HDFS do) and a run is never silent for `SILENT_S`; of two that begin at
once both may be refused.  What a run was silent about for longer is taken for killed, by the
store's own clock.  Runs of one machine are told apart at once, by a lock on a file here.
"""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from recaption.files import write_json
from recaption.manifest import ManifestError
from recaption.store_clients import StoreError
from recaption.stores import StorePath, scratch

SILENT_S = 120
_BEAT_S = 20.0


@contextmanager
def held(output: StorePath) -> Iterator[None]:
    """Hold a folder.

    Raises:
        ManifestError: Another run holds it.
        StoreError: It cannot be written to.
    """
    here = scratch(output).with_suffix(".lock")
    here.parent.mkdir(parents=True, exist_ok=True)
    with here.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refused(output, "") from None
        with _alone(output, output / "_lock" / _name(file)):
            yield


@contextmanager
def _alone(output: StorePath, lock: Path) -> Iterator[None]:
    done = threading.Event()
    write_json(lock, {})
    try:
        _look_around(output, lock)
        threading.Thread(target=_beat, args=(lock, done), daemon=True).start()
        yield
    finally:
        done.set()
        lock.unlink(missing_ok=True)


def _look_around(output: StorePath, lock: Path) -> None:
    now = lock.stat().st_mtime
    for other in (output / "_lock").iterdir():
        if other == lock:
            continue
        with suppress(FileNotFoundError):  # it has ended
            silent = now - other.stat().st_mtime
            if silent <= SILENT_S:
                raise _refused(output, f", or for {SILENT_S} s if it was killed")
            other.unlink()


def _name(file: TextIO) -> str:
    """Return what the runs of this machine call themselves, as long as their work is here."""
    file.seek(0)
    name = file.read()
    if not name:
        name = uuid4().hex
        file.write(name)
        file.flush()
    return name


def _beat(lock: Path, done: threading.Event) -> None:
    while not done.wait(_BEAT_S):
        with suppress(StoreError):  # it may come back before the silence is too long
            write_json(lock, {})


def _refused(output: StorePath, how_long: str) -> ManifestError:
    return ManifestError(
        f"output {output} must be written by one run at a time, got another at work there; wait "
        f"for it{how_long}, or choose another folder"
    )
