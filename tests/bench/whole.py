"""Measure the filter job as a whole, beside DuckDB, plain Beam, and Pillow."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq

from filters.parsing import parse
from filters.recipe import Recipe
from pipelines.plan import read_recipe
from recaption.manifest import read_manifest
from tests.bench import corpus, rivals
from tests.bench.lines import Line, heading, say, show
from tests.bench.ours import PARTS, Spent, run_timed_decide, run_timed_filter, warm_up
from tests.bench.usage import NOTHING, seconds, watched

SHARDS = 5
REPEATS = 3
"""Of quick work, in turns with what it is compared to; the best counts."""
SLICE_ROWS = 20_000
"""For Beam with an element per row, which would take minutes for all of them."""
LARGE_SHARD_ROWS = 250_000
PHOTOGRAPHS = 500
TARS = 16
"""Of the same photographs."""
REAL_IMAGES = Path(__file__).parents[3] / "shared" / "data" / "realalt"

_GIB = 2**30


def measure_all(folder: Path, rows: int) -> None:
    warm_up()
    measure_text(folder, rows)
    measure_images(folder)


def measure_text(folder: Path, rows: int) -> None:
    """Measure the jobs on metadata, and the counts by other means."""
    source, output, recipe = folder / "captions", folder / "out", read_recipe("align")
    corpus.write_captions(source, rows, -(-rows // SHARDS))
    runs, duck_runs = [], []
    for _ in range(REPEATS):
        runs.append(run_timed_filter(source, output, recipe, language=False))
        duck_runs.append(_cpu(lambda: rivals.count_with_duckdb(source, folder / "duck")))
    spent = min(runs, key=_work)
    told = run_timed_filter(source, folder / "told", recipe)
    other = read_recipe("align", ("rules.token_count.max_inclusive=30",))
    again = run_timed_decide(output, folder / "again", other)
    tables = read_manifest(output)["tables"]["ngrams"]
    heading(
        f"Captions: {rows:,} of 11 words, {tables['occurrences']:,} unigrams and bigrams, "
        f"{tables['distinct']:,} distinct"
    )
    ours = Line("count and text rules", rows, _work(spent), "aim: 150,000")
    counted = Line("its tables alone", rows, _work(spent, ("read", "count", "rank")))
    show(
        [
            *_parts(spent, rows),
            ours,
            Line("count and text rules, with language", rows, _work(told)),
            Line("decide again from columns", rows, again["decide"].cpu),
        ],
        ours,
    )
    duck = Line("DuckDB, the tables alone", rows, min(duck_runs), _compare_duck(folder))
    show([counted, duck, _count_with_plain_beam(folder)], counted)


def _compare_duck(folder: Path) -> str:
    same = all(
        _is_same(folder / "out" / "tables" / table, folder / "duck" / f"{table}.parquet")
        for table in rivals.TABLES
    )
    return _verdict(same)


def _count_with_plain_beam(folder: Path) -> Line:
    """Measure Beam with an element per row, and check that it counts as DuckDB does."""
    some, duck, output = (folder / name for name in ("slice", "slice-duck", "slice-beam"))
    corpus.write_captions(some, SLICE_ROWS, SLICE_ROWS)
    rivals.count_with_duckdb(some, duck)
    cpu_s = _cpu(lambda: rivals.count_with_plain_beam(some, output))
    same = all(
        rivals.read_lines(output, table) == rivals.read_table(duck / f"{table}.parquet")
        for table in rivals.TABLES
    )
    return Line("Beam, an element per row, the tables alone", SLICE_ROWS, cpu_s, _verdict(same))


def measure_images(folder: Path) -> None:
    """Measure the image rules, and the same looks at images by other means."""
    photographs = folder / "photographs"
    corpus.write_photographs(photographs / "00000.tar", PHOTOGRAPHS)
    for number in range(1, TARS):
        os.link(photographs / "00000.tar", photographs / f"{number:05d}.tar")
    _measure_looks(folder, "Photographs", photographs)
    if REAL_IMAGES.is_dir():
        _measure_looks(folder, "Real images, ../shared/data/realalt", REAL_IMAGES)
    runs = [
        run_timed_filter(photographs, folder / "two", _recipe(decode=True), workers=2)["measure"]
        for _ in range(REPEATS)
    ]
    cores = max(used.cpu / used.wall for used in runs)
    say(f"\nTwo processes decode the photographs with {cores:.2f} cores at work (aim: 1.7)")


def _measure_looks(folder: Path, title: str, source: Path) -> None:
    output, tars = folder / "looks", sorted(source.glob("*.tar"))
    quick, runs, pillow_runs = _recipe(decode=False), [], []
    for _ in range(REPEATS):
        runs.append(run_timed_filter(source, output, quick, language=False)["read"].cpu)
        pillow_runs.append(_cpu(lambda: rivals.look_at_images(tars, rivals.header)))
    spent = run_timed_filter(source, output, _recipe(decode=True), language=False)
    manifest = read_manifest(output)
    rows, decoded = manifest["rows_in"], manifest["kept"]
    mib = sum(path.stat().st_size for path in tars) / 2**20
    heading(f"{title}: {rows:,} in {len(tars)} tars of {mib:,.0f} MiB together")
    ours = Line("header and digest", rows, min(runs), "aim: 8,000")
    show([ours, Line("Pillow and hashlib, header and digest", rows, min(pillow_runs))], ours)
    ours = Line("decode", decoded, spent["measure"].cpu)
    hashed = {
        mode: run_timed_filter(source, output, _recipe(decode=True, hashes=mode), language=False)
        for mode in ("fast", "exact")
    }
    ours_hashed = [
        Line(f"decode and hash, phash and PDQ, {mode}", decoded, spent["measure"].cpu)
        for mode, spent in hashed.items()
    ]
    load = _cpu(lambda: rivals.look_at_images(tars, rivals.load))
    phash = _cpu(lambda: rivals.look_at_images(tars, rivals.phash))
    lines = [Line("Pillow, load", rows, load), Line("Pillow and imagehash, phash", rows, phash)]
    if importlib.util.find_spec("pdqhash"):
        pdq = _cpu(lambda: rivals.look_at_images(tars, rivals.pdq))
        lines.append(Line("Pillow and pdqhash, PDQ", rows, pdq))
    show([ours, lines[0]], ours)
    show([*ours_hashed, *lines[1:]], ours_hashed[0])


def count_large(folder: Path, rows: int) -> None:
    """Filter a large corpus of metadata with two processes, and tell its time and memory."""
    source, output = folder / "captions", folder / "out"
    made = (source, rows, LARGE_SHARD_ROWS)
    maker = get_context("spawn").Process(target=corpus.write_captions, args=made)
    maker.start()  # a process of its own, whose memory does not count
    maker.join()
    with watched(os.getpid()) as memory:
        spent = run_timed_filter(source, output, read_recipe("align"), workers=2, language=False)
    ngrams = read_manifest(output)["tables"]["ngrams"]
    total = sum(spent.values(), NOTHING)
    results = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    heading(
        f"Captions: {rows:,} of 11 words, {ngrams['occurrences']:,} unigrams and bigrams, "
        f"{ngrams['distinct']:,} distinct; two processes"
    )
    show([*_parts(spent, rows), Line("count and text rules", rows, total.cpu)], None)
    say(f"\n{total.wall:8,.0f} s, {total.cpu:,.0f} s of CPU")
    say(f"{memory.largest / _GIB:8,.2f} GiB of memory, the most of any one process (aim: 4)")
    say(f"{memory.together / _GIB:8,.2f} GiB of memory, all processes together at one moment")
    say(f"{results / _GIB:8,.2f} GiB of results")


def _recipe(*, decode: bool, hashes: str = "when_needed") -> Recipe:
    """Return a recipe without a rule, so that every image is decoded or none."""
    images = f'images = {{ decode = {str(decode).lower()}, hashes = "{hashes}" }}'
    return parse(f'name = "bench"\n{images}', "bench")


def _parts(spent: Spent, rows: int) -> list[Line]:
    return [
        Line(f"  {part}", rows, used.cpu, f"{used.cpu / used.wall:.2f} cores")
        for part, used in spent.items()
        if used.cpu > 0.0
    ]


def _work(spent: Spent, parts: Sequence[str] = PARTS) -> float:
    """Return the seconds of CPU of some parts of a job."""
    return sum(spent[part].cpu for part in parts)


def _cpu(work: Callable[[], object]) -> float:
    before = seconds()
    work()
    return (seconds() - before).cpu


def _is_same(ours: Path, theirs: Path) -> bool:
    """Say whether two tables have the same rows in the same order."""
    table = pq.read_table(ours)
    return table.equals(pq.read_table(theirs).cast(table.schema))


def _verdict(same: bool) -> str:
    return "the same counts" if same else "OTHER COUNTS"
