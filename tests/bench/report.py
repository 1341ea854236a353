"""Measure how long the report of a large run takes to write again, and how much memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.cells import Cells
from pipelines.plan import read_recipe
from pipelines.statistics import NAME, read_statistics
from tests.bench import corpus
from tests.bench.ours import run_timed_filter

SHARD_ROWS = 250_000

_KIB, _MIB = 2**10, 2**20


def measure_report(folder: Path, rows: int) -> Iterator[str]:
    """Yield what a report costs; the run is of metadata with sizes and scores, by `align`."""
    source, output = folder / "captions", folder / "out"
    maker = get_context("spawn").Process(target=_write, args=(source, rows))
    maker.start()
    maker.join()
    spent = run_timed_filter(source, output, read_recipe("align"), workers=2, language=False)
    cells = Cells.restored(read_statistics(output)["what_if"]["cells"])
    yield (
        f"\n{rows:,} rows in {-(-rows // SHARD_ROWS):,} shards: filtered in "
        f"{sum(part.wall for part in spent.values()):,.0f} s, {spent['decide'].cpu:,.0f} s of CPU "
        "of which for the decisions and statistics"
    )
    stops = ", ".join(str(len(left)) for left in cells.shape.stops(cells.level))
    yield f"{len(cells.keys):>12,} cells of rows for what-if; values left per limit: {stops}"
    yield f"{(output / NAME).stat().st_size / _MIB:12.2f} MiB of {NAME}"
    before = time.monotonic()
    command = [sys.executable, "-m", "pipelines", "report", "--from", str(output)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"report must end well, got exit code {process.returncode}")
    yield f"{time.monotonic() - before:12.1f} s for the report (aim: 60)"
    yield f"{usage.ru_utime + usage.ru_stime:12.1f} s of CPU"
    yield f"{usage.ru_maxrss * _KIB / _MIB:12.0f} MiB of memory at most"
    page = output / "report" / "index.html"
    yield f"{page.stat().st_size / 1e6:12.2f} MB of page (aim: 5)"


def _write(folder: Path, rows: int) -> None:
    """Write captions, and sizes and scores as a crawl has them: few images are tiny or banners."""
    corpus.write_captions(folder, rows, SHARD_ROWS)
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        rng, table = np.random.default_rng([1, number]), pq.read_table(path)
        width = np.exp(rng.normal(6.4, 0.7, len(table))).astype(np.int32)
        height = (width / np.exp(rng.normal(0.1, 0.4, len(table)))).astype(np.int32) + 1
        columns = {"width": width, "height": height, "punsafe": rng.beta(0.3, 6, len(table))}
        for name, values in columns.items():
            table = table.append_column(name, [values])
        pq.write_table(table, path)
