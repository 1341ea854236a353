"""Arrow's file systems for object stores, and what their errors say."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

from pyarrow import fs

_ATTEMPTS = 5
"""Of a request.  Where nobody answers, all five are over in 4 seconds (measured)."""
_CONNECT_S, _REQUEST_S = 5.0, 60.0
_GS_RETRIES = timedelta(seconds=15)


class StoreError(Exception):
    """An object store cannot be reached, or refuses; not that an object is not there."""


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say what a store's errors are about; errors of this machine have a number, and pass.

    Raises:
        FileNotFoundError: The object is not there.
        StoreError: Anything else went wrong with the store.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        _, found, told = str(error).partition("AWS Error ")
        told = (told if found else str(error)).splitlines()[0]
        for more in (" (Request ID", " error_info="):
            told = told.partition(more)[0]
        raise StoreError(
            f"{path} must be within reach, got {told.rstrip('.')}; check the name, the "
            "credentials and the endpoint, and give the same command again"
        ) from None


def file_system(scheme: str, host: str) -> fs.FileSystem:
    """Return this process's client.

    Args:
        scheme: `s3`, `gs` or `hdfs`.
        host: Of HDFS, with its port.
    """
    if scheme == "s3":
        host = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return _client(os.getpid(), scheme, host)


@cache
def _client(_: int, scheme: str, host: str) -> fs.FileSystem:
    return CLIENTS[scheme](host)  # one per process: a forked one cannot use its parent's


def _s3(endpoint: str) -> fs.FileSystem:
    return fs.S3FileSystem(
        endpoint_override=endpoint or None,  # by itself Arrow would put the bucket in its host
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small object is one request
        background_writes=False,  # it would hold a copy of all that waits
    )


def _gs(_: str) -> fs.FileSystem:
    return fs.GcsFileSystem(retry_time_limit=_GS_RETRIES)


def _hdfs(host: str) -> fs.FileSystem:
    return fs.FileSystem.from_uri(f"hdfs://{host}/")[0]


CLIENTS: dict[str, Callable[[str], fs.FileSystem]] = {"s3": _s3, "gs": _gs, "hdfs": _hdfs}
