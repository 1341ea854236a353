"""Write samples and statistics as img2dataset does."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from recaption.files import write_json


def add_sample(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    """Append a sample, given its files by extension, as webdataset's TarWriter does."""
    for extension, content in sorted(members.items()):
        member = tarfile.TarInfo(f"{key}.{extension}")
        member.size, member.mode, member.mtime = len(content), 0o444, 0
        member.uname = member.gname = "bigdata"
        tar.addfile(member, io.BytesIO(content))


def write_stats(
    path: Path,
    status: Mapping[str, int],
    *,
    failed_to_resize: int = 0,
    times: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write a shard's statistics.

    Args:
        path: The file.
        status: Its rows by `success` or the error.
        failed_to_resize: Of the errors, those of images that came.
        times: When it was begun and ended, in seconds since 1970.
    """
    rows, successes = sum(status.values()), status.get("success", 0)
    stats = {
        "count": rows,
        "successes": successes,
        "failed_to_download": rows - successes - failed_to_resize,
        "failed_to_resize": failed_to_resize,
        "duration": times[1] - times[0],
        "start_time": times[0],
        "end_time": times[1],
        "status_dict": dict(status),
    }
    write_json(path, stats)
