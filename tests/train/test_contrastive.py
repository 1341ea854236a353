"""The loss: against the plain formula, open_clip's, and itself on more ranks."""

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch.multiprocessing import spawn  # noqa: E402  # it needs torch, too
from torch.nn import functional  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from train.contrastive import contrastive_loss  # noqa: E402

GROUPS = [5, 5, 9, 2, 9, 9, 1, 0, 2, 7, 3, 5]


def pairs(count: int, width: int = 6, **kind: Any) -> "tuple[torch.Tensor, ...]":
    """Return unit-length images and texts that have a little in common, and a log scale."""
    chance = torch.Generator().manual_seed(count)
    images = torch.randn(count, width, generator=chance, dtype=torch.float64)
    texts = images + torch.randn(count, width, generator=chance, dtype=torch.float64)
    vectors = (functional.normalize(rows, dim=1).to(**kind) for rows in (images, texts))
    return (*vectors, torch.tensor(math.log(14), **kind))


def plain_loss(
    images: "torch.Tensor",
    texts: "torch.Tensor",
    log_scale: "torch.Tensor",
    smoothing: float,
    groups: list[int] | None = None,
) -> "torch.Tensor":
    """Return the loss by a loop over pairs and candidates."""
    cosines, count = images @ texts.T, len(images)
    total = torch.zeros((), dtype=images.dtype)
    for i in range(count):
        others = [j for j in range(count) if j == i or not groups or groups[i] != groups[j]]
        for logits in (cosines[i, others], cosines[others, i]):
            chances = (logits * log_scale.exp()).log_softmax(0)
            target = torch.full_like(chances, smoothing / len(others))
            target[others.index(i)] += 1 - smoothing
            total = total - (chances * target).sum()
    return total / count


def gradients(value: "torch.Tensor", of: "tuple[torch.Tensor, ...]") -> "list[torch.Tensor]":
    return [*torch.autograd.grad(value, of)]


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [5, 12, 4096])
def test_the_loss_and_its_gradients_are_those_of_a_plain_loop(
    chunk: int, smoothing: float, groups: list[int] | None
) -> None:
    given = tuple(one.requires_grad_() for one in pairs(12, dtype=torch.float64))
    numbers = None if groups is None else torch.tensor(groups)

    ours = contrastive_loss(*given, smoothing=smoothing, groups=numbers, chunk=chunk)

    plain = plain_loss(*given, smoothing, groups)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(gradients(ours, given), gradients(plain, given))


@pytest.mark.parametrize("groups", [None, GROUPS[:7]])
def test_gradients_are_what_small_changes_do(groups: list[int] | None) -> None:
    given = tuple(one.requires_grad_() for one in pairs(7, dtype=torch.float64))
    numbers = None if groups is None else torch.tensor(groups)

    def loss(*tensors: "torch.Tensor") -> "torch.Tensor":
        return contrastive_loss(*tensors, groups=numbers, chunk=3)

    assert torch.autograd.gradcheck(loss, given)


def test_the_loss_is_both_cross_entropies_of_torch() -> None:
    images, texts, log_scale = pairs(40, 16)
    logits, own = log_scale.exp() * images @ texts.T, torch.arange(40)

    ours = contrastive_loss(images, texts, log_scale)

    both = [functional.cross_entropy(one, own, label_smoothing=0.1) for one in (logits, logits.T)]
    torch.testing.assert_close(ours, both[0] + both[1])


def test_without_smoothing_it_is_twice_the_loss_of_open_clip() -> None:
    loss = pytest.importorskip("open_clip.loss")
    given = tuple(one.requires_grad_() for one in pairs(40, 16, dtype=torch.float32))

    ours = contrastive_loss(*given, smoothing=0.0, chunk=16)

    theirs = 2 * loss.ClipLoss()(given[0], given[1], given[2].exp())
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, given), gradients(theirs, given))


def test_logits_as_far_apart_as_can_be_give_finite_gradients() -> None:
    images = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    texts = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    log_scale = torch.tensor(math.log(100), requires_grad=True)

    loss = contrastive_loss(images, texts, log_scale, smoothing=0.0, chunk=2)

    assert loss.item() == pytest.approx(2 * (200 + 200 + 0) / 3)
    assert all(one.isfinite().all() for one in gradients(loss, (images, texts, log_scale)))


class Largest(TorchDispatchMode):
    """Notes the largest number of values of any tensor that torch makes."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.values = max(self.values, one.numel())
        return made


@pytest.mark.parametrize("grouped", [False, True])
def test_no_tensor_is_as_large_as_the_square_of_the_batch(*, grouped: bool) -> None:
    count, width, chunk = 512, 8, 32
    given = tuple(one.requires_grad_() for one in pairs(count, width, dtype=torch.float32))
    groups = torch.arange(count) // 2 if grouped else None

    with Largest() as largest:
        contrastive_loss(*given, groups=groups, chunk=chunk).backward()

    assert largest.values == count * width


CASES = (None, GROUPS)
RANKS = 2


def learn_on_a_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS
    )
    own = slice(rank * 12 // RANKS, (rank + 1) * 12 // RANKS)
    told = []
    for groups in CASES:
        images, texts, log_scale = pairs(12, dtype=torch.float64)
        given = tuple(one.requires_grad_() for one in (images[own], texts[own], log_scale))
        numbers = None if groups is None else torch.tensor(groups)[own]
        loss = contrastive_loss(*given, groups=numbers, chunk=4)
        told.append([loss.detach(), *gradients(loss, given)])
    torch.save(told, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_on_two_ranks_the_loss_is_the_same_and_so_is_the_mean_of_gradients(tmp_path: Path) -> None:
    spawn(learn_on_a_rank, (str(tmp_path),), nprocs=RANKS)

    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    for groups, *told in zip(CASES, *ranks, strict=True):
        given = tuple(one.requires_grad_() for one in pairs(12, dtype=torch.float64))
        plain = plain_loss(*given, 0.1, groups)
        of_images, of_texts, of_scale = gradients(plain, given)
        for loss, *_ in told:
            torch.testing.assert_close(loss, plain.detach())
        torch.testing.assert_close(torch.cat([one[1] for one in told]) / RANKS, of_images)
        torch.testing.assert_close(torch.cat([one[2] for one in told]) / RANKS, of_texts)
        torch.testing.assert_close(torch.stack([one[3] for one in told]).mean(), of_scale)
