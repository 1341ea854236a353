"""Download one shard: ask for what is missing, then write what img2dataset writes."""

import asyncio
import json
import tarfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from yarl import URL

from filters.parsing import check_bounds
from pipelines.arrivals import BROKEN, MEASURED, failed, look_at
from pipelines.failures import FetchFailedError
from pipelines.fetcher import Fetcher, Fetching, fetching
from pipelines.portions import Portion, read_portion
from pipelines.rows import mapped
from pipelines.shards import add_sample, write_stats
from pipelines.spool import Fetched, Spool, spooling
from pipelines.storage import parquet_writer
from pipelines.tars import read_members, samples
from pipelines.urls import UnusableError, read_url
from recaption.files import read_json, replacing
from recaption.stores import StorePath, scratch

_IMAGE = "jpg"
"""Whatever an image's format: what img2dataset calls them, and one name for all of a set."""
WORK = "_download"
"""The folder, in the output, of what is needed to go on."""

Queue = deque[tuple[URL, list[int]]]
"""URLs of one host, each with the rows that want it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What all shards of a download share."""

    output: Path
    fetching: Fetching
    shorter_side_px: int | None = None
    """Make larger images this small; None: keep every file as it is."""
    shard_rows: int = 10_000
    retry_failed: bool = False
    """Ask again for what failed, of shards that are complete."""

    def __post_init__(self) -> None:
        smallest = self.shorter_side_px is None or self.shorter_side_px >= 1
        bounds = (
            ("shorter_side_px", smallest, "at least 1"),
            ("shard_rows", self.shard_rows >= 1, "at least 1"),
        )
        check_bounds(self, "", bounds)

    def path(self, portion: Portion, ending: str) -> Path:
        """Return the path of a shard's file, such as with `.tar`."""
        return self.output / f"{portion.name}{ending}"

    @property
    def spools(self) -> Path:
        """The folder, on this machine, of what has been fetched of shards that are not whole."""
        here = scratch(self.output) if isinstance(self.output, StorePath) else self.output
        return here / WORK

    def key(self, portion: Portion, row: int) -> str:
        """Return a row's key: the shard's name, then the row's number."""
        return f"{portion.name}{row:0{len(str(self.shard_rows - 1))}d}"


def download_shard(job: Download, portion: Portion) -> dict[str, int]:
    """Download a shard, unless it is complete; return its rows by `success` or the error.

    What a killed process had of it is not asked for again.
    """
    stats, spool = job.path(portion, "_stats.json"), _spool(job, portion)
    if stats.exists() and not spool.exists():
        found: dict[str, int] = read_json(stats)["status_dict"]
        if not (job.retry_failed and found.keys() - {"success"}):
            return found
        _reopen(job, portion)
    began, table = time.time(), read_portion(portion)
    with spooling(spool) as some:
        _fetch_missing(job, table["url"].to_pylist(), some)
        facts = _write(job, portion, table, some)
    status = Counter(row["error_message"] or row["status"] for row in facts)
    write_stats(
        stats,
        dict(status.most_common()),
        failed_to_resize=sum(row["status"] == BROKEN for row in facts),
        times=(began, time.time()),
    )
    spool.unlink()
    return dict(status)


def _spool(job: Download, portion: Portion) -> Path:
    return job.spools / f"{portion.name}.spool"


def _reopen(job: Download, portion: Portion) -> None:
    """Make a complete shard one that only what failed is missing from."""
    facts = pq.read_table(job.path(portion, ".parquet"), columns=MEASURED.names).to_pylist()
    with (
        replacing(_spool(job, portion)) as temporary,
        spooling(temporary) as spool,
        mapped(job.path(portion, ".tar")) as data,
    ):
        found = {sample.key: sample.members for sample in samples(read_members(data, []))}
        for row, told in enumerate(facts):
            image = found.get(told.pop("key"), {}).get(_IMAGE)
            if image:
                spool.add(row, Fetched(told, bytes(data[image.offset : image.offset + image.size])))


def _fetch_missing(job: Download, urls: Sequence[str | None], spool: Spool) -> None:
    """Fetch what the spool lacks, a URL that several rows have once."""
    wanted: dict[str | None, list[int]] = defaultdict(list)
    for row, url in enumerate(urls):
        if row not in spool:
            wanted[url].append(row)
    hosts: dict[str, Queue] = defaultdict(deque)
    for url, rows in wanted.items():
        try:
            readable = read_url(url)
        except UnusableError as error:
            _add(spool, rows, failed(str(error)))
        else:
            hosts[readable.raw_host or ""].append((readable, rows))

    def look(data: bytes) -> Fetched:
        return look_at(data, job.shorter_side_px)

    try:
        asyncio.run(_fetch_all(job.fetching, list(hosts.values()), look, spool))
    except ExceptionGroup as group:  # of what ends the run, one is enough to say
        raise group.exceptions[0] from None


async def _fetch_all(
    settings: Fetching, hosts: Sequence[Queue], look: Callable[[bytes], Fetched], spool: Spool
) -> None:
    """Fetch all URLs, those of one host by as many tasks as it may have connections.

    So a host with many images, as in the order of a crawl, does not keep the others waiting.
    """
    async with fetching(settings) as fetcher, asyncio.TaskGroup() as group:
        for queue in hosts:
            for _ in range(min(settings.per_host, len(queue))):
                group.create_task(_fetch_queue(fetcher, queue, look, spool))


async def _fetch_queue(
    fetcher: Fetcher, queue: Queue, look: Callable[[bytes], Fetched], spool: Spool
) -> None:
    while queue:
        url, rows = queue.popleft()
        try:
            fetched = look(await fetcher.fetch(url))
        except FetchFailedError as error:
            fetched = failed(str(error))
        _add(spool, rows, fetched)


def _add(spool: Spool, rows: Sequence[int], fetched: Fetched) -> None:
    for row in rows:
        spool.add(row, fetched)


def _write(job: Download, portion: Portion, table: pa.Table, spool: Spool) -> list[dict[str, Any]]:
    """Write a shard's tar and parquet, in the order of the rows; return what was measured of them.

    Every row is in the parquet, and those with an image are in the tar.
    """
    facts = []
    with (
        replacing(job.path(portion, ".tar")) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for number, row in enumerate(table.to_pylist()):
            told, image = spool.read(number)
            key = job.key(portion, number)
            facts.append({"key": key} | told)
            if image is not None:
                record = json.dumps(row | facts[-1], default=str)
                members = {_IMAGE: image, "json": record.encode()}
                if "caption" in row:
                    members["txt"] = (row["caption"] or "").encode()
                add_sample(tar, key, members)
    measured = pa.Table.from_pylist(facts, schema=MEASURED)
    for name in MEASURED.names:
        table = table.append_column(name, measured[name])
    with parquet_writer(job.path(portion, ".parquet"), table.schema) as sink:
        sink.write_table(table)
    return facts
