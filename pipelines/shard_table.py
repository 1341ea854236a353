"""The table of a run's shards: what each held, what became of it, and which of them stand out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa

from pipelines.storage import parquet_writer
from recaption.files import write_json

NAME = "shards"
"""Of the table's two files in a report's folder."""
OUTLIER_MADS = 3
"""How many median absolute deviations from the median make a kept share an outlier.

Ours: of a normal distribution these are 2.02 standard deviations, beyond which lies one in 23.
"""
_ROUNDING = 1e-9
_FIXED = ("shard", "rows", "kept", "bytes", "share", "outlier", "stats")


@dataclass(frozen=True, slots=True)
class ShardTable:
    """The shards of a run, in the manifest's order, and what they were judged by."""

    rows: list[dict[str, Any]]
    """What was said of each, and its `place`, counted from 1; the `share` kept, None of no rows;
    `away`, how far that is from the median; and `outlier`, whether that is beyond `reach`."""
    median: float
    """Of the kept shares."""
    reach: float
    """How far from the median a kept share may be."""

    @property
    def num_outliers(self) -> int:
        """How many shards stand out."""
        return sum(row["outlier"] for row in self.rows)


def rows_of(manifest: dict[str, Any], output: Path) -> list[dict[str, Any]]:
    """Return what is known of each shard of a run whose results are in `output`.

    These are `shard`, `rows`, `kept`, `dropped` by reason, the `bytes` of its input files, and
    `stats`: the path, from the output, of what a materialised shard says of itself, None of one
    that is not materialised.
    """
    return [
        {name: shard[name] for name in ("shard", "rows", "kept", "dropped")}
        | {"bytes": sum(file["bytes"] for file in shard["files"])}
        | {"stats": _stats(output, shard["shard"])}
        for shard in manifest["shards"]
    ]


def judge_shards(rows: Sequence[dict[str, Any]]) -> ShardTable:
    """Say which shards keep a share that is far from that of the others."""
    shares = [row["kept"] / row["rows"] for row in rows if row["rows"]] or [0.0]
    middle = median(shares)
    reach = OUTLIER_MADS * median(abs(share - middle) for share in shares)
    judged = [row | _judge(row, middle, reach) | {"place": at} for at, row in enumerate(rows, 1)]
    return ShardTable(judged, middle, reach)


def _judge(row: dict[str, Any], middle: float, reach: float) -> dict[str, Any]:
    share = row["kept"] / row["rows"] if row["rows"] else None
    away = 0.0 if share is None else abs(share - middle)
    return {"share": share, "away": away, "outlier": away > reach + _ROUNDING}


def write_shard_table(manifest: dict[str, Any], output: Path) -> None:
    """Write `report/shards.parquet`, in which each reason is a column, and `report/shards.json`."""
    table = judge_shards(rows_of(manifest, output))
    reasons = list(manifest["dropped"])
    types = [pa.string(), *[pa.int64()] * 3, pa.float64(), pa.bool_(), pa.string()]
    schema = pa.schema(
        [*zip(_FIXED, types, strict=True), *((reason, pa.int64()) for reason in reasons)]
    )
    flat = [row | dict.fromkeys(reasons, 0) | row["dropped"] for row in table.rows]
    with parquet_writer(output / "report" / f"{NAME}.parquet", schema) as sink:
        sink.write_table(pa.Table.from_pylist(flat, schema))
    told = {
        "median_share": table.median,
        "outlier_beyond": table.reach,
        "outliers": table.num_outliers,
        "shards": [{name: row[name] for name in (*_FIXED, "dropped")} for row in table.rows],
    }
    write_json(output / "report" / f"{NAME}.json", told)


def _stats(output: Path, shard: str) -> str | None:
    path = Path("shards") / f"{shard}_stats.json"
    return path.as_posix() if (output / path).is_file() else None
