"""Check that input files are still those that a run was planned with, or was made of.

No stamp is compared by which is later: clocks differ from machine to machine, and may go back.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xxhash

from pipelines.inputs import InputError, Shard, stamp


def check_stamps(shard: Shard) -> None:
    """Check that a shard's files are as they were when the run was planned.

    That is cheap, and done before and after a task that reads them.  Of a run that is over no stamp
    is known: what it was made of may have been moved since.

    Raises:
        InputError: A file is another now, or gone.
    """
    for path, then in zip(shard.files, shard.stamps, strict=False):
        try:
            now = stamp(path.stat())
        except OSError as error:
            now = f"none ({error.strerror})"
        if now != then:
            raise InputError(
                f"{path} must stay as it was when the run began, {then}, got {now}; put it back, "
                "or give the same command with --retry-failed, which reads it as it is now"
            )


def check_digests(shard: Shard) -> None:
    """Check that a shard's files are those that a run, which is over, was made of.

    Raises:
        InputError: A file is another now, or gone.
    """
    for path, then in zip(shard.files, shard.digests, strict=False):
        now = file_digest(path) if path.is_file() else "no file"
        if now != then:
            raise InputError(
                f"{path} must be the file that the run was made of, of XXH3 {then}, got {now}; put "
                "it back, or run filter again"
            )


def changed(then: Mapping[str, Sequence[str]], shards: Iterable[Shard]) -> list[str]:
    """Return the names of shards that have other stamps than then."""
    return [shard.name for shard in shards if [*then.get(shard.name, ())] != [*shard.stamps]]


def file_digest(path: Path) -> str:
    """Tell whether a file is the same; at an eighth of SHA-256's cost, which has no use here."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
