"""Take pairs down, and look for what is left of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.commands import main
from tests.outputs import rows_of


def run(*arguments: Any) -> int:
    return main([*map(str, arguments), "--workers", "1"])


def uids_of(output: Path, *captions: str) -> list[str]:
    return [row["uid"] for row in rows_of(output, "columns") if row["caption"] in captions]


def ask(output: Path, uids: list[str], name: str = "uids.txt") -> Path:
    path = output.parent / name
    path.write_text("".join(f"{uid}\n" for uid in uids))
    return path


def everything(output: Path) -> bytes:
    """Return all that a reader of a run's files can find in them: bytes, and what parquet hides."""
    found = []
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        found.append(path.read_bytes())
        if path.suffix == ".parquet":
            found.append(json.dumps(pq.read_table(path).to_pylist(), default=repr).encode())
    return b"\n".join(found)
