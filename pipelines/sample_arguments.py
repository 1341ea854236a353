"""What may be said of a sample on the command line: what it shows, and how much of it is wrong."""

import argparse
from typing import Any

from pipelines.mixture import Mixture
from pipelines.photographs import open_album
from recaption.command_line import here, place


def add_sample(jobs: Any) -> None:
    """Add the job `sample`."""
    job = jobs.add_parser("sample", help="make a small corpus with the noise of a real one")
    job.add_argument("--output", required=True, type=place, metavar="DIR", help="where it goes")
    job.add_argument(
        "--rows", type=int, metavar="N", help="default: 6000, or all pictures that there are"
    )
    job.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    job.add_argument(
        "--images",
        type=here,
        metavar="DIR",
        help="show these pictures, and no scenes: a folder of each class, or shards with a label",
    )
    job.add_argument(
        "--part",
        choices=("all", "train", "test"),
        default="all",
        help="of DIR: the folder of that name, or else a fixed fifth, test, or the rest, train",
    )
    job.add_argument(
        "--skip",
        type=int,
        default=0,
        metavar="N",
        help="leave the first N pictures of the seed's order to another sample",
    )
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
        metavar="N",
        help="ways to put a caption: so many of 13, or of 8 with --images (default: all)",
    )
    job.add_argument(
        "--side-px",
        type=int,
        default=224,
        metavar="N",
        help="of the smallest picture (default: %(default)s)",
    )


def _share(text: str) -> tuple[str, float]:
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be KIND=SHARE, got {text!r}") from None


def read_sample(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options say of rows and of the mixture, as `write_sample` takes it.

    Raises:
        ValueError: A setting is out of its bounds, or pictures cannot be had.
    """
    album = options.images and open_album(
        options.images,
        part=options.part,
        seed=options.seed,
        skip=options.skip,
        rows=options.rows,
        side_px=options.side_px,
    )
    mixture = Mixture(
        shares={} if options.clean else dict(options.noise) or None,
        combinations=options.combinations,
        size=options.size,
        wordings=options.wordings,
        side_px=options.side_px,
        album=album,
    )
    rows = len(album.photographs) if album else options.rows
    return {"mixture": mixture} | ({} if rows is None else {"rows": rows})
