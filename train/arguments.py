"""What may be said on the command line."""

import argparse
from typing import Any

from recaption.command_line import Parser, here, place

_EXAMPLES = """\
examples:
  python -m train run small --data out/sample-recaption --out runs/sample
  torchrun --nproc-per-node 8 -m train run align --data out/crawl --out runs/align
  python -m train evaluate runs/align --on zero-shot:imagenet/val
  python -m train embed runs/align --data out/crawl --out embeddings
  python -m train search runs/align --index embeddings --text "a red bus" --image bus.jpg
  python -m train export runs/align --out models/align
  python -m train simulate --out out/simulation
  python -m train evidence --out out/evidence
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m train`."""
    root = Parser(
        prog="python -m train",
        description="Train a dual encoder on images and their captions, and say what it is worth.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = root.add_subparsers(title="verbs", required=True, metavar="VERB", dest="verb")
    _run(verbs)
    evaluate = _of_run(verbs, "evaluate", "measure what a run's model can do")
    evaluate.add_argument(
        "--on",
        action="append",
        required=True,
        metavar="TASK",
        help="such as zero-shot:DIR or retrieval:dataset_coco.json@IMAGES; may be repeated",
    )
    evaluate.add_argument(
        "--out",
        type=place,
        metavar="DIR",
        help="where results go (default: evaluation, in RUN)",
    )
    embed = _of_run(verbs, "embed", "write the embeddings of pairs, as clip-retrieval does")
    _data(embed)
    embed.add_argument("--out", required=True, type=place, metavar="DIR", help="where to")
    search = _of_run(verbs, "search", "find images by texts and images together")
    search.add_argument(
        "--index", required=True, type=place, metavar="DIR", help="what embed has written"
    )
    for name, what, read in (("--text", "words", str), ("--image", "an image file", place)):
        search.add_argument(
            name,
            action="append",
            default=[],
            type=read,
            metavar=name[2:].upper(),
            help=f"{what} to add",
        )
    search.add_argument(
        "--without-text", action="append", default=[], metavar="TEXT", help="words to subtract"
    )
    search.add_argument("--top", type=int, default=10, help="so many (default: %(default)s)")
    export = _of_run(verbs, "export", "write a run's model for others, with its card")
    export.add_argument("--out", required=True, type=place, metavar="DIR", help="where to")
    _simulate(verbs)
    _evidence(verbs)
    return root


def _run(verbs: Any) -> None:
    verb = verbs.add_parser("run", help="train a model, or go on where a run stopped")
    verb.add_argument("recipe", metavar="RECIPE", help="small, align, vit-b16, or a TOML file")
    _data(verb)
    verb.add_argument("--out", required=True, type=place, metavar="RUN", help="the run's folder")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, such as optimizer.learning_rate=1e-4; may be repeated",
    )
    verb.add_argument("--overwrite", action="store_true", help="begin anew where there is a run")
    _device(verb)


def _simulate(verbs: Any) -> None:
    verb = verbs.add_parser("simulate", help="put the theory of synthetic captions to the test")
    verb.add_argument("--out", required=True, type=here, metavar="DIR", help="where to")
    verb.add_argument(
        "--trials", type=int, default=10, help="so many (default: %(default)s; the paper has 20)"
    )
    verb.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a number of the experiment, such as num_neurons=120; may be repeated",
    )
    _device(verb)


def _evidence(verbs: Any) -> None:
    verb = verbs.add_parser("evidence", help="test what recaptioning is worth, from end to end")
    verb.description = (
        "Make corpora whose noise is known, filter and recaption them, train models on what comes "
        "out, arm by arm, and say what each is worth. Each command is shown; a killed experiment "
        "goes on."
    )
    verb.add_argument("--out", required=True, type=here, metavar="DIR", help="where to")
    verb.add_argument(
        "--grid",
        metavar="NAME",
        help="default, large, ablations, images, or a TOML file (default: default, or images "
        "with --images)",
    )
    verb.add_argument(
        "--images",
        metavar="DIR",
        help="of these pictures: a folder of each class, or shards with a label, perhaps in train "
        "and test",
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the grid, such as seeds=[0]; may be repeated",
    )
    verb.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="commands at once, each with one thread (default: one per core)",
    )


def _of_run(verbs: Any, name: str, summary: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=summary)
    verb.add_argument("run", type=place, metavar="RUN", help="the folder of a run")
    verb.add_argument(
        "--checkpoint",
        default="best",
        metavar="WHICH",
        help="best, last or a step that has one (default: best)",
    )
    _device(verb)
    return verb


def _data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data",
        action="append",
        required=True,
        type=place,
        metavar="DIR",
        help="a filter run's output, or shards; may be repeated",
    )


def _device(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--device", default="", help="as torch names it (default: a GPU where there is one)"
    )
