"""What may be said on the command line of jobs that look at data and runs, and change neither."""

from typing import Any

from pipelines.options import add_from, add_recipe, add_workers, positive, whole
from recaption.command_line import place


def add_inspections(jobs: Any) -> None:
    """Add `explain`, `diff`, `doctor`, `index` and `audit`."""
    _add_explain(jobs)
    _add_diff(jobs)
    _add_doctor(jobs)
    _add_index(jobs)
    _add_audit(jobs)


def _add_explain(jobs: Any) -> None:
    job = jobs.add_parser("explain", help="tell the whole story of one pair")
    job.add_argument("uid", metavar="UID", help="32 hexadecimal digits, as in decisions/")
    add_from(job)


def _add_diff(jobs: Any) -> None:
    job = jobs.add_parser("diff", help="compare two runs, pair by pair")
    job.description = (
        "Compare two runs: rows by reason, the drift of each column, and the pairs whose verdict "
        "changed. The exit code is that of diff: 0 if every pair has the same verdict in both, 1 "
        "if not, and 2 if one cannot be read."
    )
    job.add_argument("a", type=place, metavar="A", help="the output of a filter run")
    job.add_argument("b", type=place, metavar="B", help="that of another")
    job.add_argument("--output", type=place, metavar="DIR", help="write a page and JSON there, too")
    add_workers(job)


def _add_doctor(jobs: Any) -> None:
    job = jobs.add_parser("doctor", help="check shards before you train on them")
    job.description = (
        "Say in a line each what is wrong with shards. The exit code is 1 if something would stop "
        "training or have it learn from nothing (error), 0 otherwise, and 2 if there is no shard."
    )
    job.add_argument(
        "shards",
        nargs="+",
        metavar="SHARDS",
        help="a folder, a file, a glob, or a pattern as of open_clip: 's/{00000..00099}.tar'",
    )
    job.add_argument(
        "--caption",
        default="txt",
        metavar="NAME",
        help="the member, or a parquet's column, with captions (default: %(default)s)",
    )
    job.add_argument(
        "--sample",
        type=whole,
        default=200,
        metavar="N",
        help="images to decode, over all shards (default: %(default)s)",
    )
    job.add_argument("--seed", type=int, default=0, help="of their choice; default: %(default)s")
    job.add_argument("--json", action="store_true", help="print JSON")
    add_workers(job)


def _add_index(jobs: Any) -> None:
    job = jobs.add_parser("index", help="hash a test set, to keep it out of training sets")
    job.description = "Hash a test set.  Of the recipe, [images] and [embedding] count."
    source = job.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images", metavar="PATH", help="a folder of image files, or shards with images"
    )
    source.add_argument(
        "--merge", type=place, nargs="+", metavar="INDEX", help="make one of several indexes"
    )
    job.add_argument(
        "--output", "--out", required=True, type=place, metavar="DIR", help="the index"
    )
    job.add_argument("--name", help="of the test set (default: the last part of the path)")
    job.add_argument(
        "--upright-only",
        action="store_true",
        help="do not hash the flips and quarter turns of each image, too",
    )
    job.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be decoded"
    )
    add_recipe(job)


def _add_audit(jobs: Any) -> None:
    job = jobs.add_parser("audit", help="state how many copies of test images a run would find")
    job.description = (
        "Copy a sample of the test images in many ways, plant the copies among the corpus's own "
        "images, and state how many the run's rules find, and how many other images they match."
    )
    add_from(job)
    job.add_argument(
        "--against",
        type=place,
        nargs="+",
        default=[],
        metavar="INDEX",
        help="indexes of test sets (default: those of the run's recipe)",
    )
    job.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="PATH",
        help="where each test set's images are (default: where they were indexed)",
    )
    job.add_argument(
        "--different",
        metavar="PATH",
        help="images, in files or shards, of which you know that they are no test images",
    )
    for name, images, of in (("sample", 200, "test"), ("corpus-sample", 2000, "corpus")):
        job.add_argument(
            f"--{name}",
            type=positive,
            default=images,
            metavar="N",
            help=f"{of} images to draw (default: %(default)s)",
        )
    job.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    job.add_argument(
        "--output", type=place, metavar="DIR", help="where it goes (default: audit, in --from)"
    )
    add_workers(job)
