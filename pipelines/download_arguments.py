"""What may be said of a download on the command line."""

import argparse
from dataclasses import fields
from typing import Any

from pipelines.addresses import read_networks
from pipelines.download import DownloadPlan, plan_download
from pipelines.download_shard import Download
from pipelines.fetcher import Fetching
from pipelines.manifest import version_of
from pipelines.options import add_workers
from recaption.command_line import place

_USER_AGENT = f"Mozilla/5.0 (compatible; altmill/{version_of('altmill')})"

_BOUNDS = {
    "timeout_s": "seconds for an answer with its body",
    "retries": "more tries, where one may help",
    "connections": "of each process at a time",
    "per_host": "connections to one host at a time, over all processes, but one of each at least",
    "max_bytes": "of an image file",
    "max_redirects": "to follow",
    "max_pause_s": "seconds that a host may ask to be left alone, before its images fail",
}
"""Fields of `Fetching`."""


def add_download(jobs: Any) -> None:
    """Add the job `download`."""
    job = jobs.add_parser("download", help="fetch the images of a list of URLs into shards")
    job.description = (
        "Fetch the images of a list of URLs into tar shards, in img2dataset's layout. The same "
        "command goes on where a killed one stopped."
    )
    job.add_argument(
        "--input", required=True, metavar="PATH", help="parquet: a folder, file or glob"
    )
    job.add_argument("--output", required=True, type=place, metavar="DIR", help="where shards go")
    job.add_argument(
        "--retry-failed", action="store_true", help="ask again for what failed, and nothing else"
    )
    job.add_argument(
        "--shorter-side",
        type=int,
        metavar="PX",
        help="make larger images this small, as JPEG (default: keep every file as it is)",
    )
    job.add_argument(
        "--shard-rows", type=int, default=10_000, metavar="N", help="default: %(default)s"
    )
    job.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="the input's column for url or caption, if it is not called as usual",
    )
    _add_fetching(job)
    add_workers(job)


def _add_fetching(job: argparse.ArgumentParser) -> None:
    job.add_argument(
        "--user-agent",
        default=_USER_AGENT,
        metavar="TEXT",
        help="who asks; add where you can be reached (default: %(default)s)",
    )
    job.add_argument(
        "--ignore-opt-outs",
        action="store_true",
        help="fetch images, too, that X-Robots-Tag says not to use",
    )
    job.add_argument(
        "--allow-network",
        action="append",
        default=[],
        metavar="NETWORK",
        help="connect to these addresses, too, though they are private; such as 10.1.0.0/16",
    )
    for field in fields(Fetching):
        if field.name in _BOUNDS:
            job.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(field.default),
                default=field.default,
                metavar="N",
                help=f"{_BOUNDS[field.name]} (default: %(default)s)",
            )


def read_download(options: argparse.Namespace) -> DownloadPlan:
    """Plan the download that the command line tells of.

    Raises:
        InputError: There is nothing to download.
        RecipeError: An option is out of its bounds.
    """
    columns = dict(pair.partition("=")[::2] for pair in options.column)
    bounds = {name: getattr(options, name) for name in _BOUNDS}
    bounds["per_host"] = -(-options.per_host // options.workers)
    job = Download(
        output=options.output.absolute(),
        fetching=Fetching(
            user_agent=options.user_agent,
            honour_opt_outs=not options.ignore_opt_outs,
            allowed=read_networks(options.allow_network),
            **bounds,
        ),
        shorter_side_px=options.shorter_side,
        shard_rows=options.shard_rows,
        retry_failed=options.retry_failed,
    )
    return plan_download(options.input, job, columns=columns, workers=options.workers)
