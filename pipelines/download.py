"""Download the images of a list of URLs, as img2dataset does, safely, politely and to the end.

The output is img2dataset's, so its users' tools read it: `00000.tar`, `00000.parquet` and
`00000_stats.json` with the same columns, keys and statuses.  What fetches is ours, on `aiohttp`.
img2dataset 1.47 calls its own by name: `urllib` without a bound on the size of an answer, on its
whole time or on addresses, which opens `file:` URLs, too, and asks again at once, whatever the
answer was; there is no place to put another.  Its resizer and its writer alone would bring wandb,
pandas below 3, OpenCV, and albumentations, which is no longer kept and asks PyPI for its version
when it is imported, and would need the module `imghdr`, which Python 3.13 does not have.

Where this differs on purpose: rows are in the order of the input, so two downloads can be compared;
`width` and `height` are known also where files are kept as they are; failures have few names, the
same for all servers; the EXIF of kept files is in them, and not in a column.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from pipelines.download_shard import WORK, Download, download_shard
from pipelines.inputs import InputError, find_shards
from pipelines.local import work_through
from pipelines.portions import Portion, cut
from pipelines.run import locked
from recaption.files import read_json, write_json
from recaption.manifest import ManifestError
from recaption.stores import stat_all

_log = logging.getLogger("altmill")


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPlan:
    """A download, checked and not yet begun."""

    job: Download
    portions: tuple[Portion, ...]
    workers: int
    digest: str
    """Of the input, and of what shards look like."""


def plan_download(
    source: str, job: Download, *, columns: Mapping[str, str], workers: int
) -> DownloadPlan:
    """Plan a download.

    Args:
        source: Parquet with a column of URLs: a folder, a file, or a glob pattern.
        job: What to do with it.
        columns: The input's columns by our name, where they are not called as usual.
        workers: Local processes.

    Raises:
        InputError: There is nothing to read, or no URLs in it.
        RecipeError: A named column is missing, or a setting is out of bounds.
    """
    _, shards = find_shards(source, columns, job.output, captions=False)
    for shard in shards:
        if shard.parquet is None or "url" not in shard.columns:
            raise InputError(
                f"{shard.files[0]} must be parquet with a column of URLs, got "
                f"{', '.join(shard.columns.values()) or 'no known column'}; name it: --column "
                "url=NAME"
            )
    states = stat_all([shard.files[0] for shard in shards])
    told = [f"{job.shorter_side_px} {job.shard_rows}"]
    told += [
        f"{shard.name} {shard.columns} {state.st_size} {state.st_mtime_ns}"
        for shard, state in zip(shards, states, strict=True)
    ]
    return DownloadPlan(
        job=job,
        portions=tuple(cut(shards, job.shard_rows)),
        workers=workers,
        digest=sha256("\n".join(told).encode()).hexdigest(),
    )


def run_download(plan: DownloadPlan) -> dict[str, int]:
    """Download all shards that are not complete; return the rows by `success` or the error.

    Raises:
        ManifestError: The output folder holds something else, or somebody is writing to it.
    """
    output, status, sizes = plan.job.output, Counter[str](), {}
    with locked(output):
        _prepare(plan)
        work = partial(download_shard, plan.job)
        for name, found in work_through("Download", work, plan.portions, plan.workers):
            status.update(found)
            sizes[f"{name}.tar"] = found.get("success", 0)
        write_json(output / "sizes.json", dict(sorted(sizes.items())))
    return dict(status.most_common())


def _prepare(plan: DownloadPlan) -> None:
    """Let the same download go on, and no other begin in its place."""
    output = plan.job.output
    begun = output / WORK / "plan.json"
    if begun.is_file() and read_json(begun) == plan.digest:
        _log.info("going on with the download in %s", output)
        for path in (*output.glob(".*.tmp"), *plan.job.spools.glob(".*.tmp")):
            path.unlink(missing_ok=True)  # of processes that were killed
        return
    left = [path.name for path in output.iterdir() if path.name not in ("_work", "_lock")]
    if left:
        raise ManifestError(
            f"output {output} must be empty or hold the same download, got {min(left)} of another "
            "input, size or number of rows; choose another folder"
        )
    write_json(begun, plan.digest)
