"""What may be said on the command line."""

import argparse
import re
from typing import Any

from pipelines.cost_arguments import add_cost
from pipelines.dataflow import ACCELERATOR
from pipelines.download_arguments import add_download
from pipelines.inspection_arguments import add_inspections
from pipelines.options import add_from, add_recipe, add_wishes, add_workers
from pipelines.sample_arguments import add_sample
from recaption.command_line import Parser, here, place

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
  python -m pipelines takedown --uids uids.txt --from out
  python -m pipelines diff out other
  python -m pipelines doctor 'shards/{00000..00099}.tar'
  python -m pipelines plan --rows 1.8e9 --sample crawl --workers 1000
  python -m pipelines download --input pairs --output shards --retry-failed
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m pipelines`."""
    return _parsers()[0]


def job_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each job."""
    return dict(_parsers()[1].choices)


def _parsers() -> tuple[argparse.ArgumentParser, Any]:
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
    _add_takedown(jobs)
    add_inspections(jobs)
    add_cost(jobs)
    add_sample(jobs)
    add_download(jobs)
    _add_template(jobs)
    return root, jobs


def _add_extract(jobs: Any) -> None:
    job = jobs.add_parser("extract", help="find the images of a crawl that have an alt-text")
    job.description = "Find the images of a crawl that have a text. Beam's options follow after --."
    job.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="WARC, WAT or HTML files, gzipped or not: a folder, file or glob",
    )
    job.add_argument(
        "--output", "--out", required=True, type=place, metavar="DIR", help="the pairs"
    )
    job.add_argument("--base-url", metavar="URL", help="of the folder that HTML files come from")
    add_wishes(job)
    add_workers(job)


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
    job.add_argument("--output", required=True, type=place, metavar="DIR", help="where results go")
    add_recipe(job)
    job.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, stop"
    )
    add_wishes(job).add_argument(
        "--retry-failed",
        action="store_true",
        help="go on although input files have changed since, such as one that could not be read "
        "and was mended: read those again",
    )


def _add_decide(jobs: Any) -> None:
    job = jobs.add_parser("decide", help="decide again from measured columns, in seconds")
    add_from(job)
    add_recipe(job)
    job.add_argument(
        "--output", type=place, metavar="DIR", help="where results go (default: in place)"
    )


def _add_recaption(jobs: Any) -> None:
    job = jobs.add_parser("recaption", help="write, score and choose captions on a Beam runner")
    job.description = (
        "Write, score and choose captions, as python -m recaption does after train, on the workers "
        "of a Beam runner. Its options follow after --."
    )
    add_from(job)
    job.add_argument("--recipe", default="small", metavar="NAME", help="as of python -m recaption")
    job.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change it")
    for name in ("captioner", "scorer", "device"):
        job.add_argument(f"--{name}", default="", help="as of python -m recaption")
    job.add_argument(
        "--accelerator",
        type=_accelerator,
        default="",
        metavar="TYPE",
        help="what Dataflow's workers have for captions, such as "
        "'type:nvidia-l4;count:1;install-nvidia-driver'",
    )


def _accelerator(text: str) -> str:
    if text and not re.fullmatch(ACCELERATOR, text):
        raise argparse.ArgumentTypeError(
            f"must be like type:nvidia-l4;count:1;install-nvidia-driver, got {text!r}"
        )
    return text


def _add_report(jobs: Any) -> None:
    job = jobs.add_parser("report", help="write a run's pages again, and that of its captions")
    add_from(job)


def _add_materialise(jobs: Any) -> None:
    job = jobs.add_parser("materialise", help="write the pairs that stay as tar shards")
    job.description = (
        "Write the pairs that stay as tar shards, with the captions that were chosen for them; of "
        "metadata alone, as the parquet that is to be downloaded."
    )
    add_from(job)
    add_workers(job)


def _add_template(jobs: Any) -> None:
    job = jobs.add_parser("template", help="write Dataflow flex templates of filter and recaption")
    job.description = (
        "Write flex templates of the jobs filter and recaption, each with its metadata; "
        "docker/README.md tells how to build and run them."
    )
    job.add_argument(
        "--image",
        required=True,
        metavar="NAME:TAG",
        help="what they run in; recaption in NAME:TAG-gpu, which has torch",
    )
    job.add_argument("--output", required=True, type=place, metavar="DIR", help="where they go")


def _add_takedown(jobs: Any) -> None:
    job = jobs.add_parser("takedown", help="take pairs out of a run's outputs, for good")
    job.description = (
        "Take pairs out of every output of a run, with a record in takedown/. Stopped, it goes on "
        "by the same command, or by one without --uids."
    )
    job.add_argument(
        "--uids",
        type=place,
        metavar="FILE",
        help="one a line, parquet with a column uid, or .npy in DataComp's format",
    )
    add_from(job, here)
    add_workers(job)
