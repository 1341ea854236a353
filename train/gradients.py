"""Gradients of a batch that does not fit in memory at once.

A contrastive loss looks at all pairs of a batch together, so that adding up the gradients of parts
would learn from fewer negatives.  Instead all vectors are computed part by part and without
gradients; the loss gives the vectors' gradients; and then each part is computed once more, and its
gradients go on into the towers.  The price is one more forward pass.  Source: Gao et al., GradCache
(arXiv:2101.06983).

Dropout draws the same numbers in both passes: without that, gradients were 69 % off with a dropout
of 0.1 (ours, two layers).  Batch norm sees a part at a time, as each core's in ALIGN, and its
running statistics move in the first pass alone.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train.batch import Batch

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Of vectors of images and of texts, both (n, d), and of the log scale: a scalar."""

_Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def backward(model: nn.Module, batch: Batch, microbatch: int, loss: Loss) -> torch.Tensor:
    """Add a batch's gradients to those of the parameters.

    Args:
        model: A `DualEncoder`, or what `train.distribution.distribute` made of it.  All ranks have
            batches of the same size.
        batch: On the model's device.
        microbatch: Pairs that are in memory at once; where it is the whole batch, there is one
            pass.
        loss: Such as `train.contrastive.contrastive_loss`; it must not draw random numbers.

    Returns:
        The loss, without a gradient; scalar.
    """
    parts = _split(batch, microbatch)
    if len(parts) == 1:
        value = loss(*model(*parts[0]))
        with frozen_statistics(model):  # checkpointed layers run again
            value.backward()
        return value.detach()
    images, texts, log_scale = _vectors(model, parts)
    value = loss(images, texts, log_scale)
    value.backward()
    rows = zip(images.grad.split(microbatch), texts.grad.split(microbatch), strict=True)
    with frozen_statistics(model):
        for place, (part, (image_grad, text_grad)) in enumerate(zip(parts, rows, strict=True), 1):
            last = place == len(parts)
            scale_grad = log_scale.grad if last else torch.zeros_like(log_scale)
            with contextlib.nullcontext() if last else _alone(model):
                torch.autograd.backward(model(*part), (image_grad, text_grad, scale_grad))
    return value.detach()


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm as they are, though batches are normalised.

    `num_batches_tracked` counts on; PyTorch reads it only where momentum is None.
    """
    norms = [module for module in model.modules() if isinstance(module, _BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _split(batch: Batch, microbatch: int) -> list[_Part]:
    parts = (one.split(microbatch) for one in (batch.images, batch.tokens, batch.mask))
    return list(zip(*parts, strict=True))


def _vectors(model: nn.Module, parts: list[_Part]) -> _Part:
    """Compute all vectors part by part; random numbers start again where they started here."""
    device = parts[0][0].device
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        images, texts, scales = zip(*(model(*part) for part in parts), strict=True)
    leaves = (torch.cat(images), torch.cat(texts), scales[0])
    return tuple(leaf.detach().requires_grad_() for leaf in leaves)


def _alone(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Keep gradients to this rank, as those of more parts follow; FSDP adds them up as they come.

    DDP would else send them after each part.
    """
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return contextlib.nullcontext()
