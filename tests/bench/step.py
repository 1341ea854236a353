"""A training step of a dual encoder, its parts, and its memory, beside open_clip's.

Both do the same work in the same run, in turns: random tensors, the same batch, width, depth and
precision; on a CPU one thread, and the rates are per second of CPU.  On a GPU they are per second
of the clock, and towers run in bfloat16.  open_clip's text tower is a causal, pre-norm transformer
of the same size, its loss is ClipLoss, and the optimizer of both is torch's fused AdamW.

The share of the peak counts each forward pass three times, analytically, as torch's own counter
takes the gradients of depthwise convolutions for 10 to 17 times of what they are; recomputation is
not counted.  The peak is a product of square matrices of random numbers, measured just before.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.encoders import SIZES, Size, our_model, random_batch, their_model, training_flops
from tests.bench.loops import STEPS, pair_loops
from tests.bench.usage import seconds, status

REPEATS = 5
WARM_UP = {"cpu": 1, "cuda": 10}
PEAK_SIDE = {"cpu": 2048, "cuda": 8192}
LOSS_PAIRS = {"cpu": 4096, "cuda": 32_768}
MEMORY_PAIRS = (8192, 16_384)
LARGE_BATCH = 32_768
MAX_LOG_SCALE = math.log(100)
_MIB = 2**20


class Work(NamedTuple):
    """Something that both do, or that only we do."""

    what: str
    pairs: int
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None
    flops: float = 0.0
    """Of a pair, three forward passes; 0: not told."""
    long: bool = False
    """Measured once, after one run to warm up."""


def measure_step(folder: Path, size: str, repeats: int = REPEATS) -> Iterator[str]:
    """Yield lines of pairs per second, ours and open_clip's, and of the loss's memory."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    peak = _measure_peak(device)
    unit = "pairs per CPU s, float32" if device.type == "cpu" else "pairs per s, bfloat16"
    yield f"\n{size}: {SIZES[size]}"
    yield f"{device.type}, {peak / 1e12:.3f} TFLOP/s of matrices; {unit}, median of {repeats}"
    yield f"{'':46}{'ours':>10}{'of peak':>9}{'theirs':>10}{'times':>8}"
    for work in _works(SIZES[size], device, folder):
        ours, theirs = _rates(work, device, repeats)
        share = f"{ours * work.flops / peak:9.1%}" if work.flops else f"{'':9}"
        beside = f"{theirs:>10,.1f}{ours / theirs:>7.2f}x" if theirs else ""
        yield f"{work.what:46}{ours:>10,.1f}{share}{beside}"
    if device.type == "cpu":
        yield from _measure_memory(SIZES[size].embed)


def _rates(work: Work, device: Any, repeats: int) -> tuple[float, float | None]:
    """Return the pairs per second of both, measured in turns."""
    spent: dict[Callable[[], Any], list[float]] = {}
    for turn in range(-1, 1) if work.long else range(-WARM_UP[device.type], repeats):
        for do in (work.ours, work.theirs):
            if do:
                took = _time(do, device)
                spent.setdefault(do, []).extend([took] if turn >= 0 else [])
    ours, theirs = (
        work.pairs / statistics.median(spent[do]) if do else None for do in (work.ours, work.theirs)
    )
    assert ours is not None
    return ours, theirs


def _time(do: Callable[[], Any], device: Any) -> float:
    if device.type == "cpu":
        before = seconds()
        do()
        return (seconds() - before).cpu
    import torch

    torch.cuda.synchronize()
    start = time.monotonic()
    do()
    torch.cuda.synchronize()
    return time.monotonic() - start


def _measure_peak(device: Any) -> float:
    """Return the floating-point operations per second of a large product of matrices."""
    import torch

    side = PEAK_SIDE[device.type]
    kind = torch.float32 if device.type == "cpu" else torch.bfloat16
    one, other = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    times = [_time(lambda: one @ other, device) for _ in range(WARM_UP[device.type] + REPEATS)]
    return 2 * side**3 / statistics.median(times[WARM_UP[device.type] :])


def _works(size: Size, device: Any, folder: Path) -> Iterator[Work]:
    import torch
    from open_clip.loss import ClipLoss
    from torch.nn.functional import normalize

    from train.contrastive import contrastive_loss

    count = LOSS_PAIRS[device.type]
    images, texts = (
        normalize(torch.randn(count, size.embed, device=device), dim=1).requires_grad_()
        for _ in range(2)
    )
    scale = torch.tensor(2.66, device=device, requires_grad=True)
    clip_loss = ClipLoss()
    yield Work(
        f"loss and its gradients, {count:,} pairs",
        count,
        lambda: contrastive_loss(images, texts, scale).backward(),
        lambda: clip_loss(images, texts, scale.exp()).backward(),
    )
    model = our_model(size).to(device)
    theirs = their_model(size).to(device) if size.tower == "vit" else None
    yield from _towers(size, device, model, theirs)
    yield from _steps(size, device, model, theirs)
    for loops in pair_loops(size, device, model, theirs, folder):
        yield Work(loops.what, STEPS * size.batch, loops.ours, loops.theirs)


def _towers(size: Size, device: Any, model: Any, theirs: Any) -> Iterator[Work]:
    """Yield the towers alone."""
    import torch

    batch, flops = random_batch(size, device), training_flops(size)
    pixels = torch.randn(batch.images.shape, device=device)

    def run(made: Any) -> None:
        made.float().sum().backward()

    def run_theirs(name: str, given: Any) -> None:
        with _bf16(device):
            made = getattr(theirs, name)(given)
        run(made)

    yield Work(
        "image tower and its gradients",
        size.batch,
        lambda: run(model.encode_image(batch.images)),
        theirs and (lambda: run_theirs("encode_image", pixels)),
        flops["image"],
    )
    yield Work(
        "text tower and its gradients",
        size.batch,
        lambda: run(model.encode_text(batch.tokens, batch.mask)),
        theirs and (lambda: run_theirs("encode_text", batch.tokens)),
        flops["text"],
    )


def _steps(size: Size, device: Any, model: Any, theirs: Any) -> Iterator[Work]:
    """Yield whole steps."""
    from train.config import OptimizerConfig
    from train.contrastive import contrastive_loss
    from train.gradients import backward
    from train.optimizers import build_optimizer

    batch, flops = random_batch(size, device), sum(training_flops(size).values())

    def step(optimizer: Any, microbatch: int, batch: Any = batch, model: Any = model) -> None:
        optimizer.zero_grad()
        backward(model, batch, microbatch, contrastive_loss)
        optimizer.step()

    adam = build_optimizer(model, OptimizerConfig(name="adamw", learning_rate=1e-4))
    lamb = build_optimizer(model, OptimizerConfig(learning_rate=1e-4))
    peer = theirs and _their_step(theirs, batch, device)
    yield Work("step, AdamW", size.batch, lambda: step(adam, size.batch), peer, flops)
    yield Work("step, LAMB", size.batch, lambda: step(lamb, size.batch), None, flops)
    parts = f"step, AdamW, {size.microbatch} pairs at once"
    yield Work(parts, size.batch, lambda: step(adam, size.microbatch), None, flops)
    if device.type == "cuda":
        compiled = our_model(size, compile=True).to(device)
        quick = build_optimizer(compiled, OptimizerConfig(name="adamw", learning_rate=1e-4))
        run = partial(step, quick, size.batch, model=compiled)
        yield Work("step, AdamW, compiled", size.batch, run, None, flops)
        large = random_batch(size._replace(batch=LARGE_BATCH), device)
        run = partial(step, lamb, size.microbatch, large)
        yield Work(f"step, LAMB, {LARGE_BATCH:,} pairs", LARGE_BATCH, run, None, flops, long=True)


def _their_step(theirs: Any, batch: Any, device: Any) -> Callable[[], None]:
    """Return what open_clip's loop does with a batch."""
    import torch
    from open_clip.loss import ClipLoss

    pixels, loss = torch.randn(batch.images.shape, device=device), ClipLoss()
    optimizer = torch.optim.AdamW(theirs.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with _bf16(device):
            value = loss(*theirs(pixels, batch.tokens))
        value.backward()
        optimizer.step()
        with torch.no_grad():
            theirs.logit_scale.clamp_(0, MAX_LOG_SCALE)

    return step


def _bf16(device: Any) -> Any:
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _measure_memory(width: int) -> Iterator[str]:
    yield f"\nMost memory of the loss and its gradients beside its inputs, width {width}, MiB"
    yield f"{'':46}{'ours':>10}{'theirs':>19}"
    for pairs in MEMORY_PAIRS:
        ours, theirs = (_memory(pairs, width, which) for which in ("ours", "theirs"))
        yield f"{f'{pairs:,} pairs':46}{ours / _MIB:>10,.0f}{theirs / _MIB:>19,.0f}"


def _memory(pairs: int, width: int, which: str) -> int:
    """Return bytes; measured in a process of its own, as what was used before would hide them."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_tell_memory, args=(pairs, width, which, there))
    child.start()
    there.close()
    told = here.recv()
    child.join()
    return int(told)


def _tell_memory(pairs: int, width: int, which: str, pipe: Connection) -> None:
    import torch
    from open_clip.loss import ClipLoss

    from train.contrastive import contrastive_loss

    torch.set_num_threads(1)
    losses = {
        "ours": contrastive_loss,
        "theirs": lambda images, texts, scale: ClipLoss()(images, texts, scale.exp()),
    }

    def learn(count: int) -> None:
        rows = [torch.randn(count, width, requires_grad=True) for _ in range(2)]
        losses[which](*rows, torch.tensor(0.0, requires_grad=True)).backward()

    learn(8)  # what torch sets up once
    before = status(os.getpid())["VmRSS"]  # rusage's peak is the parent's, too
    learn(pairs)
    most = status(os.getpid())["VmHWM"] - before
    pipe.send(most - 4 * pairs * width * 4)  # its inputs and their gradients
