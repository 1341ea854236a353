"""Whole training, loader and loop included, beside open_clip's own loop on the same images.

Each side runs its own code from end to end: ours `train.loop`, theirs `train_one_epoch`, fed by
webdataset where images come from tars (set up here as open_clip does, whose own set-up, of 3.3.0,
fails with webdataset 0.2.111).  On a CPU both have one thread.  Both cut windows of 90 % of an
image or more; their words are cut by our tokenizer, so that texts are as long.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.bench import corpus
from tests.bench.encoders import Size, random_batch
from tests.bench.loader import shrink_tar, webdataset_pipeline

STEPS = 6
TARS = 16
IMAGES = 512


class Loops(NamedTuple):
    """What both do with `STEPS` batches of one kind."""

    what: str
    ours: Callable[[], None]
    theirs: Callable[[], None] | None


def pair_loops(size: Size, device: Any, ours: Any, theirs: Any, folder: Path) -> Iterator[Loops]:
    """Yield both loops, fed by batches that are in memory, and by tars of photographs.

    Args:
        size: Of the models.
        device: Where these are.
        ours: Our model.
        theirs: open_clip's; None: it has none like it.
        folder: For the tars.
    """
    from train.index import cores

    threads = cores() if device.type == "cuda" else 1
    batch = random_batch(size, device)
    yield Loops(
        "loop, batches in memory",
        _our_loop(size, ours, _Repeated(batch)),
        theirs and _their_loop(size, theirs, device, _their_batches(batch)),
    )
    resize_px = round(size.image_px / 0.9)
    large, small = folder / "640 x 480", folder / f"shorter side {resize_px}"
    for number in range(TARS):
        name = f"{number:05d}.tar"
        corpus.write_photographs(large / name, IMAGES // TARS, number)
        shrink_tar(large / name, small / name, resize_px)
    for tars in (large, small):
        yield Loops(
            f"loop, tars of photographs, {tars.name}",
            _our_loop(size, ours, _our_loader(size, tars, resize_px, threads)),
            theirs and _their_loop(size, theirs, device, _their_tars(size, tars, threads - 1)),
        )


class _Repeated:
    """The same batch again and again, as a loader gives batches."""

    bad: Mapping[str, int] = {}

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self._batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing, as there is no position."""
        return {}


def _our_loop(size: Size, model: Any, batches: Any) -> Callable[[], None]:
    from train.checkpoints import Checkpoints
    from train.config import OptimizerConfig
    from train.distributed import World
    from train.feed import Feed
    from train.loop import Loop
    from train.optimizers import build_optimizer
    from train.settings import Settings, Validation

    class Unkept(Loop):
        """Theirs, too, writes no checkpoint within an epoch."""

        def _keep(self, step: int, fed: Any) -> None:
            pass

    config = OptimizerConfig(name="adamw", learning_rate=1e-4, warmup_steps=0)
    settings = Settings(
        name="bench",
        steps=STEPS,
        batch=size.batch,
        model=model.config,
        optimizer=config,
        validation=Validation(held_out_share=0.0),
    )
    device = next(model.parameters()).device
    silent = World(device, rank=1)
    optimizer = build_optimizer(model, config)
    loop = Unkept(settings, model, model, optimizer, Checkpoints(Path()), silent, {})
    return lambda: loop.run(Feed(batches, device), 0)


def _our_loader(size: Size, tars: Path, resize_px: int, threads: int) -> Any:
    from train.augment import Images
    from train.index import open_data
    from train.loader import Loader, LoaderSettings
    from train.mixing import Captions

    data = open_data([tars], Captions(), tars.with_suffix(".index"))
    images = Images(resize_px=resize_px, keep_aspect=True, mirror=False)
    settings = LoaderSettings(images=images, threads=threads)
    tokenizer, px = _tokenizer(size), size.image_px
    return Loader(data, settings, tokenizer, px=px, batch=size.batch, seed=0)


def _tokenizer(size: Size) -> Any:
    from recaption.wordpiece import Tokenizer, count_words, train_wordpiece

    words = count_words(f"a photograph, number {number}" for number in range(IMAGES))
    return Tokenizer(train_wordpiece(words, 200), size.tokens)


def _their_loop(size: Size, model: Any, device: Any, data: Any) -> Callable[[], None]:
    import torch
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch

    logging.getLogger().setLevel(logging.ERROR)
    model.output_dict = True  # as their main does it
    chosen = SimpleNamespace(
        device=str(device),
        precision="amp_bf16" if device.type == "cuda" else "fp32",
        batch_size=size.batch,
        accum_freq=1,
        distill=False,
        skip_scheduler=True,
        grad_clip_norm=None,
        rank=0,
        world_size=1,
        log_every_n_steps=STEPS,
        wandb=False,
    )
    optimizer, loss = torch.optim.AdamW(model.parameters(), 1e-4, fused=True), ClipLoss()
    return lambda: train_one_epoch(
        model, {"train": data}, loss, 0, optimizer, None, None, None, chosen
    )


class _Epoch(list[Any]):
    """Batches as their loop wants them."""

    num_batches = STEPS
    num_samples = STEPS


def _their_batches(batch: Any) -> Any:
    import torch

    pixels = torch.randn(batch.images.shape, device=batch.images.device)
    epoch = _Epoch([(pixels, batch.tokens)] * STEPS)
    return SimpleNamespace(dataloader=epoch, set_epoch=lambda _: None)


def _their_tars(size: Size, tars: Path, workers: int) -> Any:
    import open_clip
    import webdataset

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = _tokenizer(size)
    transform = open_clip.image_transform(size.image_px, is_train=True)
    pipeline = webdataset_pipeline(
        tars, transform, lambda caption: tokenizer.encode([caption])[0][0], size.batch
    )
    endless = pipeline.with_epoch(STEPS)
    loader = webdataset.WebLoader(endless, batch_size=None, num_workers=min(workers, TARS))
    loader.num_batches = loader.num_samples = STEPS
    return SimpleNamespace(dataloader=loader, set_epoch=lambda _: None)
