"""Downloads from a server on loopback, and what they leave."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.commands import main
from tests.shards import write_parquet

LOOPBACK = ("--allow-network", "127.0.0.1/32")
QUICK = ("--workers", "1", "--timeout-s", "2.5", "--max-pause-s", "3")


def write_list(folder: Path, urls: Sequence[str | None], **more: Any) -> Path:
    """Write a list of URLs with captions; return its folder."""
    captions = [f"picture {n}" for n in range(len(urls))]
    write_parquet(folder / "list.parquet", {"url": urls, "text": captions} | more)
    return folder


def download(source: Path, output: Path, *options: str) -> int:
    """Download by the command line; return the exit code."""
    paths = ["--input", str(source), "--output", str(output)]
    return main(["download", *paths, *LOOPBACK, *QUICK, *options])


def rows_of(output: Path) -> list[dict[str, Any]]:
    """Return the rows of all shards."""
    return [r for path in sorted(output.glob("*.parquet")) for r in pq.read_table(path).to_pylist()]


def errors_of(output: Path) -> list[str | None]:
    """Return what is wrong with each row."""
    return [row["error_message"] for row in rows_of(output)]


def stats_of(output: Path, shard: str = "00000") -> dict[str, Any]:
    """Return a shard's statistics."""
    return json.loads((output / f"{shard}_stats.json").read_text(encoding="utf-8"))


def members_of(output: Path, shard: str = "00000") -> dict[str, bytes]:
    """Return the files in a shard's tar."""
    with tarfile.open(output / f"{shard}.tar") as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
