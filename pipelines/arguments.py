"""What may be said on the command line."""

import argparse
import os
from pathlib import Path
from typing import Any

from pipelines.download_arguments import add_download
from recaption.command_line import Parser

_EXAMPLES = """\
examples:
  python -m pipelines sample --output sample
  python -m pipelines extract --input 'crawl/*.warc.wat.gz' --output pairs
  python -m pipelines filter --input sample --output out/sample --recipe align
  python -m pipelines filter --input crawl --output out --recipe mine.toml --dry-run
  python -m pipelines filter --input crawl --output out -- --runner=FlinkRunner
  python -m pipelines decide --from out --recipe other.toml
  python -m pipelines index --images ILSVRC2012/val --name imagenet-val --out indexes/imagenet-val
  python -m pipelines filter --input crawl --output out --set test_sets.indexes='["indexes/coco"]'
  python -m pipelines audit --from out --against indexes/coco
  python -m pipelines explain 0f3a... --from out
  python -m pipelines materialise --from out
  python -m pipelines diff out other
  python -m pipelines doctor 'shards/{00000..00099}.tar'
  python -m pipelines download --input pairs --output shards --retry-failed
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m pipelines`."""
    root = Parser(
        prog="python -m pipelines",
        description="Filter image-text pairs, and say why each dropped one went.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs = root.add_subparsers(title="jobs", required=True, metavar="JOB", dest="job")
    _add_extract(jobs)
    _add_filter(jobs)
    _add_decide(jobs)
    _add_recaption(jobs)
    _add_report(jobs)
    _add_materialise(jobs)
    _add_explain(jobs)
    _add_diff(jobs)
    _add_doctor(jobs)
    _add_index(jobs)
    _add_audit(jobs)
    _add_sample(jobs)
    add_download(jobs, _add_workers)
    return root


def _add_extract(jobs: Any) -> None:
    job = jobs.add_parser("extract", help="find the images of a crawl that have an alt-text")
    job.description = "Find the images of a crawl that have a text. Beam's options follow after --."
    job.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="WARC, WAT or HTML files, gzipped or not: a folder, file or glob",
    )
    job.add_argument("--output", "--out", required=True, type=Path, metavar="DIR", help="the pairs")
    job.add_argument("--base-url", metavar="URL", help="of the folder that HTML files come from")
    job.add_argument(
        "--overwrite", action="store_true", help="replace what another run left in the output"
    )
    _add_workers(job)


def _add_filter(jobs: Any) -> None:
    job = jobs.add_parser("filter", help="measure a corpus, decide, and write what is kept")
    job.description = (
        "Filter a corpus. Beam's own options follow after --; without a --runner there, the job "
        "runs on this machine."
    )
    job.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="img2dataset shards, parquet metadata or parquet with images: a folder, file or glob",
    )
    job.add_argument("--output", required=True, type=Path, metavar="DIR", help="where results go")
    _add_recipe(job)
    job.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, stop"
    )
    job.add_argument(
        "--overwrite", action="store_true", help="replace what another run left in the output"
    )


def _add_decide(jobs: Any) -> None:
    job = jobs.add_parser("decide", help="decide again from measured columns, in seconds")
    _add_from(job)
    _add_recipe(job)
    job.add_argument(
        "--output", type=Path, metavar="DIR", help="where results go (default: in place)"
    )


def _add_recaption(jobs: Any) -> None:
    job = jobs.add_parser("recaption", help="write, score and choose captions on a Beam runner")
    job.description = (
        "Do what python -m recaption does after train, on workers of a Beam runner, whose options "
        "follow after --."
    )
    _add_from(job)
    job.add_argument("--recipe", default="small", metavar="NAME", help="as of python -m recaption")
    job.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change it")
    for name in ("captioner", "scorer", "device"):
        job.add_argument(f"--{name}", default="", help="as of python -m recaption")


def _add_report(jobs: Any) -> None:
    job = jobs.add_parser("report", help="write a run's pages again, and that of its captions")
    _add_from(job)


def _add_materialise(jobs: Any) -> None:
    job = jobs.add_parser("materialise", help="write the pairs that stay as tar shards")
    job.description = (
        "Write the pairs that stay as tar shards, with the captions that were chosen for them; of "
        "metadata alone, as the parquet that is to be downloaded."
    )
    _add_from(job)
    _add_workers(job)


def _add_explain(jobs: Any) -> None:
    job = jobs.add_parser("explain", help="tell the whole story of one pair")
    job.add_argument("uid", metavar="UID", help="32 hexadecimal digits, as in decisions/")
    _add_from(job)


def _add_diff(jobs: Any) -> None:
    job = jobs.add_parser("diff", help="compare two runs, pair by pair")
    job.description = (
        "Compare two runs: rows by reason, the drift of each column, and the pairs whose verdict "
        "changed. The exit code is that of diff: 0 if every pair has the same verdict in both, 1 "
        "if not, and 2 if one cannot be read."
    )
    job.add_argument("a", type=Path, metavar="A", help="the output of a filter run")
    job.add_argument("b", type=Path, metavar="B", help="that of another")
    job.add_argument("--output", type=Path, metavar="DIR", help="write a page and JSON there, too")
    _add_workers(job)


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
        type=_whole,
        default=200,
        metavar="N",
        help="images to decode, over all shards (default: %(default)s)",
    )
    job.add_argument("--seed", type=int, default=0, help="of their choice; default: %(default)s")
    job.add_argument("--json", action="store_true", help="print JSON")
    _add_workers(job)


def _add_index(jobs: Any) -> None:
    job = jobs.add_parser("index", help="hash a test set, to keep it out of training sets")
    job.description = "Hash a test set.  Of the recipe, [images] and [embedding] count."
    source = job.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images", metavar="PATH", help="a folder of image files, or shards with images"
    )
    source.add_argument(
        "--merge", type=Path, nargs="+", metavar="INDEX", help="make one of several indexes"
    )
    job.add_argument("--output", "--out", required=True, type=Path, metavar="DIR", help="the index")
    job.add_argument("--name", help="of the test set (default: the last part of the path)")
    job.add_argument(
        "--upright-only",
        action="store_true",
        help="do not hash the flips and quarter turns of each image, too",
    )
    job.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be decoded"
    )
    _add_recipe(job)


def _add_audit(jobs: Any) -> None:
    job = jobs.add_parser("audit", help="state how many copies of test images a run would find")
    job.description = (
        "Copy a sample of the test images in many ways, plant the copies among the corpus's own "
        "images, and state how many the run's rules find, and how many other images they match."
    )
    _add_from(job)
    job.add_argument(
        "--against",
        type=Path,
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
            type=_positive,
            default=images,
            metavar="N",
            help=f"{of} images to draw (default: %(default)s)",
        )
    job.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    job.add_argument(
        "--output", type=Path, metavar="DIR", help="where it goes (default: audit, in --from)"
    )
    _add_workers(job)


def _add_sample(jobs: Any) -> None:
    job = jobs.add_parser("sample", help="make a small corpus with the noise of a real one")
    job.add_argument("--output", required=True, type=Path, metavar="DIR", help="where it goes")
    job.add_argument("--rows", type=int, default=6000, help="default: %(default)s")
    job.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    noise = job.add_mutually_exclusive_group()
    noise.add_argument("--clean", action="store_true", help="without noise: every caption is true")
    noise.add_argument(
        "--noise",
        action="append",
        type=_share,
        default=[],
        metavar="KIND=SHARE",
        help="such as partner=0.4, of these kinds alone; may be repeated (default: a crawl's)",
    )
    job.add_argument(
        "--combinations",
        default="all",
        metavar="WHICH",
        help="of a colour and a shape: all, seen or held-out, which are the others",
    )
    job.add_argument(
        "--size", default="", metavar="SIZE", help="of all shapes: small or large (default: both)"
    )
    job.add_argument(
        "--wordings",
        type=int,
        default=13,
        metavar="N",
        help="ways to put a caption: so many of 13 (default: all)",
    )
    job.add_argument(
        "--side-px",
        type=int,
        default=224,
        metavar="N",
        help="of the smallest picture (default: %(default)s)",
    )


def _add_recipe(job: argparse.ArgumentParser) -> None:
    job.add_argument(
        "--recipe",
        default="align",
        metavar="NAME",
        help="align, conceptual-captions, coyo, datacomp-basic, laion, a TOML file, or a run's "
        "manifest.json (default: %(default)s)",
    )
    job.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, such as rules.token_count.max_inclusive=30; may be repeated",
    )
    _add_workers(job)


def _add_workers(job: argparse.ArgumentParser) -> None:
    job.add_argument(
        "--workers",
        type=_positive,
        default=_cores(),
        metavar="N",
        help="local processes (default: one per core, %(default)s)",
    )


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, got {text!r}")
    return int(text)


def _share(text: str) -> tuple[str, float]:
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be KIND=SHARE, got {text!r}") from None


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, got {text!r}")
    return int(text)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _add_from(job: argparse.ArgumentParser) -> None:
    job.add_argument(
        "--from", required=True, type=Path, metavar="DIR", help="the output of a filter run"
    )
