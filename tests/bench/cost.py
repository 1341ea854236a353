"""Measure the constants that `python -m pipelines plan` predicts with, and how right it is."""

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import tomli_w
from scipy.optimize import nnls

from pipelines.bundles import PIECE_ROWS
from pipelines.cost import (
    QUANTITIES,
    STAGES,
    Coefficients,
    Constants,
    Cost,
    choose_volumes,
    hours,
    mapped_bytes,
    peak_disk,
)
from pipelines.manifest import code_version
from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter
from pipelines.volumes import Corpus, Heaps, Volumes, fit_heaps, measure_volumes
from recaption.files import read_json, write_text
from recaption.manifest import read_manifest
from tests.bench import corpus
from tests.bench.usage import looking

WORKERS = 2
SHARD_ROWS = 250_000
_LEAST = {"cpu_s": 0.1, "sent_bytes": 1e5, "written_bytes": 1e5, "peak_bytes": 1e6}
"""What takes less weighs as much as that, as it is as uncertain."""
_MIB = 2**20
_EVERY_S = 1.0


class Case(NamedTuple):
    """A run to measure."""

    rows: int
    shard_rows: int = SHARD_ROWS
    words: float = corpus.WORDS
    partitions: int = 0
    """0: as many as the job takes by itself."""
    width_px: int = 0
    """Of photographs in tars; 0: there is metadata alone."""
    changes: tuple[str, ...] = ()
    piece_rows: int = PIECE_ROWS
    """Of a bundle, per partition; 1: every shard is one."""


_COPIES = ("rules.duplicate.same=pair",)
_HASHED = ("images.hashes=fast", "materialise=true")
CASES = (
    Case(100_000, changes=_COPIES),
    Case(1_000_000),
    Case(200_000, partitions=1),
    Case(40_000, words=4.0),
    Case(40_000, words=24.0),
    Case(20_000, 250, partitions=64, changes=_COPIES, piece_rows=1),
    Case(10_000, 100, partitions=16),
    Case(2_000, 250, width_px=640),
    Case(2_000, 250, width_px=320, changes=_HASHED),
    Case(2_000, 250, width_px=640, changes=_HASHED),
)
"""What tells the volumes apart: sizes, lengths, partitions, shards, bundles, and images."""


class Measured(NamedTuple):
    """What a run was, and what it cost."""

    case: Case
    partitions: int
    occurrences: float
    distinct: float
    image_bytes: float
    decoded: float
    kept: float
    stages: dict[str, dict[str, float]]
    seconds: float
    disk: float
    """The most bytes in the output at a time, as seen every second."""

    def volumes(self, heaps: Heaps) -> Volumes:
        """Return how much of everything the run worked on."""
        case = self.case
        described = Corpus(
            rows=case.rows,
            tokens=(self.occurrences / case.rows + 1) / 2,
            heaps=heaps,
            shard_rows=case.shard_rows,
            image_bytes=self.image_bytes,
            megapixels=case.width_px**2 * 3 / 4 / 1e6,
            decoded=self.decoded,
            kept=self.kept,
        )
        recipe = read_recipe("align", case.changes)
        return measure_volumes(described, recipe, self.partitions, self.distinct, case.piece_rows)


def measure_cost(folder: Path, path: Path | None) -> Iterator[str]:
    """Run the cases, fit the constants, and write them; yield what they say."""
    runs = []
    for at, case in enumerate(CASES):
        runs.append(measure(folder / str(at), case))
        yield told(runs[-1])
    constants = fit(runs)
    yield f"\nHeaps: {constants.heaps.factor:.3g} * n ** {constants.heaps.exponent:.3f}"
    for run in runs:
        yield from compare(constants, run)
    if path:
        text = tomli_w.dumps(
            {
                "measured": constants.measured,
                "heaps": constants.heaps._asdict(),
                "stages": constants.stages,
            }
        )
        write_text(path, text)


def check_cost(folder: Path, constants: Constants, rows: int) -> Iterator[str]:
    """Predict a run, run it, and yield both."""
    run = measure(folder / "check", Case(rows))
    yield told(run)
    distinct = constants.heaps.distinct(run.occurrences)
    error = _error(distinct, run.distinct)
    yield f"{run.distinct:,} distinct n-grams, said {distinct:,.0f} ({error})"
    yield from compare(constants, run._replace(distinct=distinct), stages=True)


def measure(folder: Path, case: Case) -> Measured:
    """Make a corpus, filter it, and remove both."""
    source, output = folder / "source", folder / "out"
    maker = get_context("spawn").Process(target=_make, args=(source, case))
    maker.start()  # a process of its own, whose memory does not count
    maker.join()
    plan = plan_filter(str(source), output, read_recipe("align", case.changes), workers=WORKERS)
    run = replace(plan.run, partitions=case.partitions or plan.run.partitions)
    plan = replace(plan, run=run, piece_rows=case.piece_rows)
    with _watched_disk(output) as disk:
        run_filter(plan)
    state, manifest = read_json(output / "run.json"), read_manifest(output)
    tars = [path.stat().st_size for path in source.glob("*.tar")]
    columns = pq.read_table(output / "columns", columns=["decoded"])["decoded"]
    shutil.rmtree(folder)
    return Measured(
        case,
        plan.run.partitions,
        manifest["tables"]["ngrams"]["occurrences"],
        manifest["tables"]["ngrams"]["distinct"],
        sum(tars) / case.rows,
        (len(columns) - columns.null_count) / case.rows,
        manifest["kept"] / case.rows,
        state["stages"],
        state["seconds"],
        max(disk),
    )


def fit(runs: Sequence[Measured]) -> Constants:
    """Fit the constants of every stage, and Heaps' law, to runs."""
    text = [run for run in runs if run.case.words == corpus.WORDS and not run.case.width_px]
    heaps = fit_heaps(
        *(np.array([getattr(r, n) for r in text]) for n in ("occurrences", "distinct"))
    )
    every = [run.volumes(heaps) for run in runs]
    stages = {}
    for stage, work in STAGES.items():
        told = [
            (run.stages[stage], v)
            for run, v in zip(runs, every, strict=True)
            if stage in run.stages
        ]
        stages[stage] = {
            name: _fit(
                [
                    used.get(name, 0.0) - mapped_bytes(work, v) * (name == "peak_bytes")
                    for used, v in told
                ],
                [choose_volumes(work, v, name) for _, v in told],
                _LEAST[name],
            )
            for name in QUANTITIES
        }
    measured = {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "date": datetime.now(UTC).date().isoformat(),
        "altmill": code_version(),
        "python": platform.python_version(),
        "rows": max(run.case.rows for run in runs),
    }
    return Constants(measured, heaps, stages)


def compare(constants: Constants, run: Measured, *, stages: bool = False) -> Iterator[str]:
    """Yield what was measured and what the constants say of it, of stages or of the whole run."""
    volumes = run.volumes(constants.heaps)
    said = constants.predict(volumes)
    got = {stage: Cost(*(run.stages[stage].get(n, 0.0) for n in QUANTITIES), 1.0) for stage in said}
    units = (1.0, _MIB, _MIB, _MIB)
    if stages:
        yield f"\n{'':<24}" + "".join(f"{name + ', said':>26}" for name in QUANTITIES)
        for stage in said:
            yield _line(stage, got[stage][:4], said[stage][:4], units)
    sums = [[sum(c[at] for c in costs.values()) for at in range(3)] for costs in (got, said)]
    peaks = [max(c.peak_bytes for c in costs.values()) for costs in (got, said)]
    name = f"{run.case.rows:,} rows"
    yield _line(name, (*sums[0], peaks[0]), (*sums[1], peaks[1]), units)
    if stages:
        yield _line("seconds", [run.seconds], [hours(said, WORKERS) * 3600], [1.0])
        yield _line("MiB of disk at a time", [run.disk], [peak_disk(said)], [_MIB])


def told(run: Measured) -> str:
    """Say what a run was, and its rate."""
    cpu_s = sum(used["cpu_s"] for used in run.stages.values())
    sent = sum(used.get("sent_bytes", 0.0) for used in run.stages.values())
    rows, words, width_px = run.case.rows, run.case.words, run.case.width_px
    return (
        f"{rows:>12,} rows, {words:.0f} words, {run.partitions} partitions"
        f"{f', {width_px} px' * bool(width_px)}: {cpu_s:,.1f} s of CPU, {rows / cpu_s:,.0f} rows "
        f"a second of CPU, {sent / rows:,.0f} bytes sent a row, {run.distinct:,.0f} distinct"
    )


def cpu_model() -> str:
    """Return the name of the kind of CPU."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def _make(source: Path, case: Case) -> None:
    if not case.width_px:
        corpus.write_captions(source, case.rows, case.shard_rows, words=case.words)
        return
    first = source / "00000.tar"
    corpus.write_photographs(first, case.shard_rows, width=case.width_px)
    for number in range(1, case.rows // case.shard_rows):
        os.link(first, source / f"{number:05d}.tar")


def _fit(values: Sequence[float], volumes: Sequence[Volumes], least: float) -> Coefficients:
    """Fit constants, none below 0, by least squares; a run weighs by the root of what it took."""
    if not values or not any(values):
        return {}
    scale = 1 / np.sqrt(np.maximum(values, least))
    names = list(volumes[0])
    matrix = np.array([[one[name] for name in names] for one in volumes])
    size = np.maximum(matrix.max(axis=0), 1e-12)
    found, _ = nnls(matrix / size * scale[:, None], np.array(values) * scale)
    return {n: float(f"{c:.4g}") for n, c in zip(names, found / size, strict=True) if c}


def _line(name: str, got: Sequence[float], said: Sequence[float], units: Sequence[float]) -> str:
    cells = (
        f"{a / unit:>10,.1f}{b / unit:>10,.1f}{_error(b, a):>6}"
        for a, b, unit in zip(got, said, units, strict=True)
    )
    return f"{name:<24}" + "".join(cells)


def _error(said: float, got: float) -> str:
    return f"{said / got - 1:+.0%}" if got else ""


@contextmanager
def _watched_disk(folder: Path) -> Iterator[list[float]]:
    """Watch how many bytes there are in a folder."""
    sizes = [0.0]
    with looking(lambda: sizes.append(_size(folder)), _EVERY_S):
        yield sizes


def _size(folder: Path) -> float:
    total = 0.0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it has just been removed
            total += path.stat().st_size if path.is_file() else 0
    return total
