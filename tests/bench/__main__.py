"""Print what our jobs cost, beside the same work done by other means.

python -m tests.bench                           everything, in a few minutes
python -m tests.bench count --rows 10_000_000   time and memory of one large corpus
python -m tests.bench extract                   pages of a crawl, beside BeautifulSoup and lxml
python -m tests.bench index                     an index of a million test images
python -m tests.bench cifair                    how many human-judged duplicates are found
python -m tests.bench peers                     what other detectors find of copies, and how fast
python -m tests.bench recall                    which copies of photographs are found
python -m tests.bench duplicates --rows 5_000_000   near hashes whose groups are known
python -m tests.bench generate                  captions written and judged, beside transformers
python -m tests.bench download                  images downloaded, beside img2dataset
python -m tests.bench loader                    pairs loaded, beside webdataset and Pillow
python -m tests.bench report --rows 10_000_000  a large run's report, written again
python -m tests.bench cost --write FILE         the constants that `plan` predicts with
python -m tests.bench predicted --rows 10_000_000   what they say of a run, and what it is
python -m tests.bench ngrams --rows 9_500_000 --most 100_000_000   a large table, and GNU sort's
python -m tests.bench skew --rows 5_000_000    a text on many rows, an image with many texts
python -m tests.bench step                      a training step, beside open_clip; --size for a GPU

Rates are per second of CPU, user and system, children included; on a machine that does other work
too they come out lower.  All inputs are generated from a seed, but for the real images of
../shared/data/realalt and the real pages of ../shared/data/html, which are measured where they
are present.
"""

import argparse
import importlib.util
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from filters.parsing import parse
from filters.recipe import Recipe
from pipelines.cost import read_constants
from pipelines.plan import read_recipe
from recaption.manifest import read_manifest
from tests.bench import cifair, corpus, rivals
from tests.bench.copies import compare_peers
from tests.bench.cost import check_cost, measure_cost
from tests.bench.downloads import measure_downloads
from tests.bench.duplicates import measure_groups
from tests.bench.encoders import SIZES
from tests.bench.extract import measure_extraction
from tests.bench.generate import measure_generation
from tests.bench.loader import measure_loading
from tests.bench.lookup import measure_lookups
from tests.bench.ngrams import measure_table
from tests.bench.ours import PARTS, Spent, run_timed_decide, run_timed_filter, warm_up
from tests.bench.recall import measure_recall
from tests.bench.report import measure_report
from tests.bench.skew import measure_skew
from tests.bench.step import measure_step
from tests.bench.usage import NOTHING, seconds, watched

ROWS = 500_000
SHARDS = 5
ENTRIES = 1_000_000
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


class Line(NamedTuple):
    """Work that was measured."""

    what: str
    items: int
    cpu_s: float
    note: str = ""

    @property
    def rate(self) -> float:
        """Items per second of CPU."""
        return self.items / max(self.cpu_s, 1e-9)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=_JOBS, default="all")
    parser.add_argument("--rows", type=int, default=ROWS, help="captions (default: %(default)s)")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="of an index")
    parser.add_argument(
        "--pictures", type=Path, help="of cifair's unlisted matches: a PNG to write"
    )
    parser.add_argument("--most", type=int, default=1_000_000, help="n-grams in ngrams' table")
    parser.add_argument("--write", type=Path, metavar="FILE", help="of cost's constants")
    parser.add_argument("--constants", type=Path, metavar="FILE", help="that cost wrote")
    parser.add_argument("--peers", action="store_true", help="recall of other detectors, too")
    parser.add_argument("--size", choices=SIZES, default="small", help="of step's models")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # Beam's, about packages that it can do without
    warnings.simplefilter("ignore")  # Pillow's, about the real images
    with tempfile.TemporaryDirectory(prefix="altmill-bench-") as name:
        _JOBS[chosen.what](Path(name), chosen)


def _measure_all(folder: Path, chosen: argparse.Namespace) -> None:
    warm_up()
    measure_text(folder, chosen.rows)
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
    _title(
        f"Captions: {rows:,} of 11 words, {tables['occurrences']:,} unigrams and bigrams, "
        f"{tables['distinct']:,} distinct"
    )
    ours = Line("count and text rules", rows, _work(spent), "aim: 150,000")
    counted = Line("its tables alone", rows, _work(spent, ("read", "count", "rank")))
    _print(
        [
            *_parts(spent, rows),
            ours,
            Line("count and text rules, with language", rows, _work(told)),
            Line("decide again from columns", rows, again["decide"].cpu),
        ],
        ours,
    )
    duck = Line("DuckDB, the tables alone", rows, min(duck_runs), _compare_duck(folder))
    _print([counted, duck, _count_with_plain_beam(folder)], counted)


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
    _say(f"\nTwo processes decode the photographs with {cores:.2f} cores at work (aim: 1.7)")


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
    _title(f"{title}: {rows:,} in {len(tars)} tars of {mib:,.0f} MiB together")
    ours = Line("header and digest", rows, min(runs), "aim: 8,000")
    _print([ours, Line("Pillow and hashlib, header and digest", rows, min(pillow_runs))], ours)
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
    _print([ours, lines[0]], ours)
    _print([*ours_hashed, *lines[1:]], ours_hashed[0])


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
    _title(
        f"Captions: {rows:,} of 11 words, {ngrams['occurrences']:,} unigrams and bigrams, "
        f"{ngrams['distinct']:,} distinct; two processes"
    )
    _print([*_parts(spent, rows), Line("count and text rules", rows, total.cpu)], None)
    _say(f"\n{total.wall:8,.0f} s, {total.cpu:,.0f} s of CPU")
    _say(f"{memory.largest / _GIB:8,.2f} GiB of memory, the most of any one process (aim: 4)")
    _say(f"{memory.together / _GIB:8,.2f} GiB of memory, all processes together at one moment")
    _say(f"{results / _GIB:8,.2f} GiB of results")


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


def _title(text: str) -> None:
    _say(f"\n{text}\n{'':46}{'items':>12}{'CPU s':>9}{'per CPU s':>12}{'ours is':>10}")


def _print(lines: list[Line], ours: Line | None) -> None:
    """Print lines, each with how many times the rate of `ours` is its own."""
    for line in lines:
        times = f"{ours.rate / line.rate:9.1f}x" if ours and not line.what.startswith(" ") else ""
        _say(
            f"{line.what:<46}{line.items:>12,}{line.cpu_s:>9.2f}{line.rate:>12,.0f}{times:>10}"
            f"  {line.note}".rstrip()
        )


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        _say(line)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


_JOBS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "all": _measure_all,
    "count": lambda folder, chosen: count_large(folder, chosen.rows),
    "index": lambda folder, chosen: _say_all(measure_lookups(folder, chosen.entries)),
    "duplicates": lambda folder, chosen: _say_all(measure_groups(folder, chosen.rows)),
    "extract": lambda folder, _: _say_all(measure_extraction(folder)),
    "cifair": lambda folder, chosen: cifair.measure(folder, _say, chosen.pictures),
    "peers": lambda folder, _: _say_all(compare_peers(folder)),
    "generate": lambda *_: _say_all(measure_generation()),
    "download": lambda folder, _: _say_all(measure_downloads(folder)),
    "loader": lambda folder, _: _say_all(measure_loading(folder)),
    "ngrams": lambda folder, chosen: _say_all(measure_table(folder, chosen.rows, chosen.most)),
    "cost": lambda folder, chosen: _say_all(measure_cost(folder, chosen.write)),
    "predicted": lambda folder, chosen: _say_all(
        check_cost(folder, read_constants(chosen.constants), chosen.rows)
    ),
    "report": lambda folder, chosen: _say_all(measure_report(folder, chosen.rows)),
    "skew": lambda folder, chosen: _say_all(measure_skew(folder, chosen.rows)),
    "step": lambda folder, chosen: _say_all(measure_step(folder, chosen.size)),
    "recall": lambda folder, chosen: measure_recall(folder, peers=chosen.peers),
}

if __name__ == "__main__":
    main()
