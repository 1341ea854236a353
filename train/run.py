"""Train a model, or go on where a run stopped: from a recipe and folders to checkpoints."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import train
from filters.rule import RecipeError
from pipelines.manifest import code_version, environment, version_of
from recaption.files import write_json
from recaption.wordpiece import Tokenizer
from train.checkpoints import Checkpoints
from train.distributed import World, joined
from train.distribution import distribute
from train.dual_encoder import DualEncoder
from train.feed import Feed
from train.folder import CHECKPOINTS, INDEX, RUN
from train.home import Home, at_work
from train.index import Data, open_data
from train.loader import Loader
from train.loop import Loop
from train.metrics import Metrics
from train.optimizers import build_optimizer
from train.page import write_report
from train.settings import Settings
from train.validation import Validation
from train.vocabulary import make_tokenizer

_VERSIONS = ("timm", "tokenizers", "torch")


def run(
    settings: Settings,
    sources: Sequence[Path],
    out: Path,
    *,
    device: str = "",
    overwrite: bool = False,
) -> None:
    """Train, in this process or in all that torchrun started.

    Args:
        settings: What to learn, and how.
        sources: Folders to learn from.
        out: The run's folder; a run of the same recipe and data goes on there.
        device: As torch names it; empty: a GPU where there is one.
        overwrite: Begin anew, whatever run is in `out`.

    Raises:
        RecipeError: The data cannot be read, `out` holds another run, or the run goes wrong.
    """
    with joined(device) as world:
        if settings.batch % world.ranks:
            raise RecipeError(
                f"batch must be a multiple of the {world.ranks} processes, got {settings.batch}; "
                "change it"
            )
        if world.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, where towers are not in bfloat16
        with at_work(out, world, overwrite=overwrite) as home:
            _learn(_prepare(settings, sources, home, world))
            if world.first:
                write_report(home.here, str(out))
            world.wait()


@dataclass(frozen=True, slots=True)
class _Material:
    """What is learnt, from what, and where."""

    settings: Settings
    data: Data
    held_out: Data
    tokenizer: Tokenizer
    home: Home
    world: World

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.home.here / CHECKPOINTS, self.settings.checkpoints.keep)


def _prepare(settings: Settings, sources: Sequence[Path], home: Home, world: World) -> _Material:
    """Index the data, and make the vocabulary, unless an earlier start has done so."""
    out, share = home.here, settings.validation.held_out_share
    every = open_data(sources, settings.captions, out / INDEX, share)
    data, max_tokens = every.part(held_out=False), settings.model.max_tokens
    if world.first and not Checkpoints(out / CHECKPOINTS).steps():
        tokenizer = make_tokenizer(settings.vocabulary, sources, data, max_tokens)
        tokenizer.save(out)
        write_json(out / RUN, _story(settings, sources, every, tokenizer, world))
    home.share(world)
    tokenizer = Tokenizer.load(out, max_tokens)
    return _Material(settings, data, every.part(held_out=True), tokenizer, home, world)


def _story(
    settings: Settings, sources: Sequence[Path], every: Data, tokenizer: Tokenizer, world: World
) -> dict[str, Any]:
    """Tell what a run is made of, for people and for its model's card."""
    held_out = every.part(held_out=True).num_samples
    return {
        "settings": asdict(settings),
        "data": {
            "sources": [str(source) for source in sources],
            "pairs": every.num_samples - held_out,
            "held_out": held_out,
            "left_out": dict(every.left_out),
            "digest": every.digest,
            "manifests_sha256": {
                str(source): hashlib.sha256(manifest.read_bytes()).hexdigest()
                for source in sources
                if (manifest := source / "manifest.json").is_file()
            },
        },
        "vocabulary": {"tokens": len(tokenizer.vocabulary), "sha256": tokenizer.digest},
        "processes": world.ranks,
        "device": world.device.type,
        "altmill": code_version(train),
        "environment": environment() | {name: version_of(name) for name in _VERSIONS},
    }


def _learn(material: _Material) -> None:
    settings, world, tokenizer = material.settings, material.world, material.tokenizer
    torch.manual_seed(settings.seed)  # the same weights in every process
    config = replace(settings.model, vocabulary=len(tokenizer.vocabulary))
    encoder = DualEncoder(config).to(world.device)
    model = distribute(encoder, settings.distribution) if world.ranks > 1 else encoder
    optimizer = build_optimizer(encoder, settings.optimizer)
    facts = {"vocabulary_sha256": tokenizer.digest, "data": material.data.digest}
    loop = Loop(settings, model, encoder, optimizer, material.checkpoints, world, facts)
    loop.kept = material.home.send
    begun, position = loop.resume()
    loader = Loader(
        material.data,
        settings.loader,
        tokenizer,
        px=config.image_px,
        batch=settings.batch // world.ranks,
        seed=settings.seed,
        rank=world.rank,
        ranks=world.ranks,
        state=position,
    )
    if settings.validation.held_out_share:
        loop.validate = Validation(settings, material.held_out, tokenizer, world)
    if world.first:
        here, project = material.home.here, settings.log.wandb_project
        loop.metrics = Metrics(here, begun, asdict(settings), project)
    try:
        loop.run(Feed(loader, world.device), begun)
    finally:
        if loop.metrics:
            loop.metrics.close()
