"""What may be said on the command line."""

import argparse
import os
import re
from typing import Any

from recaption.command_line import Parser, place

_EXAMPLES = """\
examples:
  python -m recaption run --from out/sample --clean out/clean --recipe small
  python -m recaption generate --from out --captioner hf:Salesforce/blip-image-captioning-base
  python -m recaption generate --from out --captioner openai:http://localhost:8000/v1#Qwen3-VL-8B
  python -m recaption score --from out --scorer blip:Salesforce/blip-itm-base-coco
  python -m recaption choose --from out --set choose.rule=threshold-mix
  torchrun --nproc-per-node 8 -m recaption generate --from out
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m recaption`."""
    root = Parser(
        prog="python -m recaption",
        description="Write better captions, judge both, and keep the better one.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = root.add_subparsers(title="verbs", required=True, metavar="VERB", dest="verb")
    run = _verb(verbs, "run", "train, generate, score and choose")
    train = _verb(verbs, "train", "learn a captioner, and a filter apart from it")
    generate = _verb(verbs, "generate", "write captions for the images that may need them")
    score = _verb(verbs, "score", "judge raw and synthetic captions")
    _verb(verbs, "choose", "choose by the scores that are stored, in seconds")
    _verb(verbs, "revert", "give the raw captions back; scores stay")
    for verb in (run, train):
        verb.add_argument(
            "--clean",
            type=place,
            metavar="DIR",
            help="a filter run's output over a small clean set, S_h (default: what --from kept)",
        )
    for verb in (run, generate):
        verb.add_argument(
            "--captioner",
            default="",
            metavar="NAME",
            help="blip:DIR-OR-ID, hf:DIR-OR-ID or openai:URL#MODEL (default: what train left)",
        )
        verb.add_argument(
            "--retry-failed", action="store_true", help="ask again where a caption failed"
        )
        verb.add_argument(
            "--overwrite", action="store_true", help="replace another captioner's captions"
        )
    for verb in (run, score):
        verb.add_argument(
            "--scorer",
            default="",
            metavar="NAME",
            help="blip:DIR-OR-ID of a filter (default: what train left)",
        )
    for verb in (run, generate, score):
        verb.add_argument(
            "--part",
            type=_part,
            default=_rank(),
            metavar="I/N",
            help="do every N-th shard from the I-th on, from 0 (default: torchrun's rank, or all)",
        )
    for verb in (run, train, generate, score):
        verb.add_argument(
            "--device", default="", help="as torch names it (default: a GPU where there is one)"
        )
    return root


def _verb(verbs: Any, name: str, summary: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=summary)
    verb.add_argument(
        "--from", required=True, type=place, metavar="DIR", help="the output of a filter run"
    )
    verb.add_argument(
        "--recipe",
        default="small",
        metavar="NAME",
        help="small, blip-base, or a TOML file (default: %(default)s)",
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, such as decode.strategy=greedy; may be repeated",
    )
    return verb


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 0 to N - 1, got {text!r}")
    return int(found[1]), int(found[2])


def _rank() -> tuple[int, int]:
    """Return torchrun's rank, and how many there are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
