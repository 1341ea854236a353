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
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.cost import read_constants
from tests.bench import cifair
from tests.bench.copies import compare_peers
from tests.bench.cost import check_cost, measure_cost
from tests.bench.downloads import measure_downloads
from tests.bench.duplicates import measure_groups
from tests.bench.encoders import SIZES
from tests.bench.extract import measure_extraction
from tests.bench.generate import measure_generation
from tests.bench.lines import say, say_all
from tests.bench.loader import measure_loading
from tests.bench.lookup import measure_lookups
from tests.bench.ngrams import measure_table
from tests.bench.recall import measure_recall
from tests.bench.report import measure_report
from tests.bench.skew import measure_skew
from tests.bench.step import measure_step
from tests.bench.whole import count_large, measure_all

ROWS = 500_000
ENTRIES = 1_000_000


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


_JOBS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "all": lambda folder, chosen: measure_all(folder, chosen.rows),
    "count": lambda folder, chosen: count_large(folder, chosen.rows),
    "index": lambda folder, chosen: say_all(measure_lookups(folder, chosen.entries)),
    "duplicates": lambda folder, chosen: say_all(measure_groups(folder, chosen.rows)),
    "extract": lambda folder, _: say_all(measure_extraction(folder)),
    "cifair": lambda folder, chosen: cifair.measure(folder, say, chosen.pictures),
    "peers": lambda folder, _: say_all(compare_peers(folder)),
    "generate": lambda *_: say_all(measure_generation()),
    "download": lambda folder, _: say_all(measure_downloads(folder)),
    "loader": lambda folder, _: say_all(measure_loading(folder)),
    "ngrams": lambda folder, chosen: say_all(measure_table(folder, chosen.rows, chosen.most)),
    "cost": lambda folder, chosen: say_all(measure_cost(folder, chosen.write)),
    "predicted": lambda folder, chosen: say_all(
        check_cost(folder, read_constants(chosen.constants), chosen.rows)
    ),
    "report": lambda folder, chosen: say_all(measure_report(folder, chosen.rows)),
    "skew": lambda folder, chosen: say_all(measure_skew(folder, chosen.rows)),
    "step": lambda folder, chosen: say_all(measure_step(folder, chosen.size)),
    "recall": lambda folder, chosen: measure_recall(folder, peers=chosen.peers),
}
