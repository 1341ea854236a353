"""The contrastive loss over all ranks' pairs, in memory that grows with them, not their square.

Images and texts of a batch are told apart by two softmaxes, and the loss is the sum of both, as in
ALIGN (arXiv:2102.05918, section 4.1); CLIP's is the mean.  One tile of logits at a time serves both
directions, and is computed again for the gradients.  Only texts are gathered from other ranks; each
rank has the logits of its own images.

Shapes: b pairs of this rank, n of all ranks together, d embedding width.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

SMOOTHING = 0.1
"""Share of a target that is spread evenly over all candidates.  Source: ALIGN, section 5."""
CHUNK = 4096
"""Side of a tile: 67 MB of float32."""

_Where = tuple[torch.Tensor | None, int, int]
"""Groups of all n pairs, numbered from 0; the first pair of this rank; the side of a tile."""


def contrastive_loss(
    images: torch.Tensor,
    texts: torch.Tensor,
    log_scale: torch.Tensor,
    *,
    smoothing: float = SMOOTHING,
    groups: torch.Tensor | None = None,
    chunk: int = CHUNK,
) -> torch.Tensor:
    """Pull each image towards its own text and away from the others', and the reverse.

    With `groups`, what belongs to another pair of the same group is no candidate: it is in neither
    softmax, and smoothing spreads its share over the others.  So the targets of image i, and of
    text i, are `1 - smoothing + smoothing / m` for its own and `smoothing / m` for each other of
    its m candidates.

    Gradients are right after a mean over ranks, which is what DDP and FSDP take: what a rank gets
    here is its own part times the number of ranks.

    Args:
        images: Unit-length vectors, (b, d).
        texts: Unit-length vectors, (b, d); row i belongs to image i.  b is the same on all ranks.
        log_scale: Logarithm of the inverse temperature; scalar.
        smoothing: Label smoothing, in [0, 1).
        groups: Int64, (b,); pairs whose numbers are equal are no negatives of each other.
        chunk: Side of the tiles of logits.

    Returns:
        Mean over the n pairs of both cross-entropies' sum, in nats; scalar, equal on all ranks.
    """
    ranks, rank = (distributed.get_world_size(), distributed.get_rank()) if _many() else (1, 0)
    own = slice(rank * len(images), (rank + 1) * len(images))
    with torch.autocast(images.device.type, enabled=False):
        every = _Gathered.apply(texts) if ranks > 1 else texts
        if groups is not None:
            groups = torch.unique(_gather(groups), return_inverse=True)[1]
        told = (images * _targets(every, groups, smoothing)[own]).sum() * log_scale.exp()
        sums = _LogSumExps.apply(images, every, log_scale, (groups, own.start, chunk))
        return (sums - _Summed.apply(told)) / len(every)


def _targets(every: torch.Tensor, groups: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Sum the texts by how far they are an image's target and how far it is theirs: (n, d).

    The sum over all pairs of targets and cosines is so that of images and these, and takes n times
    d steps.
    """
    group = every
    weight = torch.full_like(every[:, :1], smoothing / len(every))
    if groups is not None:
        group = torch.zeros_like(every).index_add(0, groups, every)[groups]
        weight = smoothing / (len(every) + 1 - torch.bincount(groups)[groups, None]).to(every.dtype)
    others = every.sum(0) - 2 * (group - every)
    return 2 * (1 - smoothing) * every + weight * others + (weight * every).sum(0)


class _LogSumExps(torch.autograd.Function):
    """Sum of the log-sum-exps of all rows, and of all columns, of the n x n logits."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        every: torch.Tensor,
        log_scale: torch.Tensor,
        where: _Where,
    ) -> torch.Tensor:
        ctx.where = where
        row_sums = images.new_full((len(images),), -torch.inf)
        column_sums = images.new_full((len(every),), -torch.inf)
        for rows, columns, tile in _tiles(images, every, log_scale.exp(), where):
            row_sums[rows] = torch.logaddexp(row_sums[rows], tile.logsumexp(1))
            column_sums[columns] = torch.logaddexp(column_sums[columns], tile.logsumexp(0))
        column_sums = _logsumexp_over_ranks(column_sums)
        ctx.save_for_backward(images, every, log_scale, row_sums, column_sums)
        return _reduce(row_sums.sum()) + column_sums.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, every, log_scale, row_sums, column_sums = ctx.saved_tensors
        scale = log_scale.exp()
        image_grad, text_grad = torch.zeros_like(images), torch.zeros_like(every)
        for rows, columns, tile in _tiles(images, every, scale, ctx.where):
            chances = (tile - row_sums[rows, None]).exp_()
            chances += tile.sub_(column_sums[columns]).exp_()
            image_grad[rows] += chances @ every[columns]
            text_grad[columns] += chances.T @ images[rows]
        factor = grad * scale * (distributed.get_world_size() if _many() else 1)
        image_grad *= factor
        text_grad *= factor
        # Logits are scale times cosine, so that the same sum over them is their gradient's, too
        return image_grad, text_grad, (image_grad * images).sum(), None


def _tiles(
    images: torch.Tensor,
    every: torch.Tensor,
    scale: torch.Tensor,
    where: _Where,
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Yield the logits of this rank's images and all texts; -inf where they are no candidates."""
    groups, first, chunk = where
    for row in range(0, len(images), chunk):
        rows = slice(row, min(row + chunk, len(images)))
        for column in range(0, len(every), chunk):
            columns = slice(column, column + chunk)
            tile = (images[rows] @ every[columns].T).mul_(scale)
            if groups is not None:
                same = groups[first + row : first + rows.stop, None] == groups[columns]
                same.diagonal(first + row - column).fill_(value=False)
                tile.masked_fill_(same, -torch.inf)
            yield rows, columns, tile


class _Gathered(torch.autograd.Function):
    """Rows of all ranks, in their order; each rank gets the sum of all gradients of its own."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        ctx.shape = rows.shape
        return _gather(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        own = grad.new_empty(ctx.shape)
        _reduce_scatter(own, grad.contiguous())
        return own


class _Summed(torch.autograd.Function):
    """Sum over ranks; the gradient of each rank's own part, times their number."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:  # noqa: ARG004  # torch passes it
        return _reduce(value)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # noqa: ARG004  # torch passes it
        return grad * distributed.get_world_size() if _many() else grad


# Their names until torch 2.13, and from then on
_all_gather = getattr(distributed, "all_gather_single", distributed.all_gather_into_tensor)
_reduce_scatter = getattr(distributed, "reduce_scatter_single", distributed.reduce_scatter_tensor)


def _gather(rows: torch.Tensor) -> torch.Tensor:
    if not _many():
        return rows
    every = rows.new_empty((distributed.get_world_size() * len(rows), *rows.shape[1:]))
    _all_gather(every, rows.contiguous())
    return every


def _logsumexp_over_ranks(values: torch.Tensor) -> torch.Tensor:
    if not _many():
        return values
    largest = _reduce(values, distributed.ReduceOp.MAX)
    return largest + _reduce((values - largest).exp()).log()


def _reduce(values: torch.Tensor, how: Any = distributed.ReduceOp.SUM) -> torch.Tensor:
    reduced = values.clone()
    if _many():
        distributed.all_reduce(reduced, how)
    return reduced


def _many() -> bool:
    return distributed.is_available() and distributed.is_initialized()
