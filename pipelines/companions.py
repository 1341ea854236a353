"""Check what lies beside a tar and speaks of it: its parquet, its statistics, and `sizes.json`."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.findings import Checkup
from recaption.files import read_json
from recaption.stores import readable


def compare(files: list[Path], keys: set[str], checkup: Checkup) -> None:
    """Compare a tar, the first of the files, with what is beside it."""
    tar, *parquets = files
    _compare_sizes(tar, checkup)
    stats = tar.with_name(f"{tar.stem}_stats.json")
    if stats.is_file():
        successes = (_object(stats) or {}).get("successes")
        if successes != checkup.samples:
            checkup.add("stats_wrong", f"{successes}, not {checkup.samples:,}")
    for parquet in parquets:
        _compare_parquet(parquet, keys, checkup)


def _compare_sizes(tar: Path, checkup: Checkup) -> None:
    path = tar.with_name("sizes.json")
    if not path.is_file():
        return
    sizes = _object(path)
    if sizes is None:
        checkup.add("sizes_unreadable")
    elif tar.name not in sizes:
        checkup.add("sizes_lacks")
    elif sizes[tar.name] != checkup.samples:
        checkup.add("sizes_wrong", f"{sizes[tar.name]}, not {checkup.samples:,}")


def _object(path: Path) -> dict[str, Any] | None:
    try:
        told = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _compare_parquet(parquet: Path, keys: set[str], checkup: Checkup) -> None:
    try:
        names = pq.read_schema(readable(parquet)).names
        if "key" not in names:
            return
        table = pq.read_table(
            readable(parquet), columns=[n for n in ("key", "status") if n in names]
        )
    except (OSError, pa.ArrowException) as error:
        checkup.add("parquet_unreadable", f"{parquet.name}: {str(error).splitlines()[0]}")
        return
    if "status" in table.schema.names:
        table = table.filter(pc.equal(table["status"], "success"))
    listed = {str(key) for key in table["key"].to_pylist()}
    if listed != keys:
        sides = (listed - keys, keys - listed)
        examples = ", ".join(sorted(key for side in sides for key in sorted(side)[:1]))
        missing, more = map(len, sides)
        checkup.add("parquet_differs", f"{missing:,} lacking, {more:,} more, such as {examples}")
