"""Gradient caching: against a graph that keeps all parts, and on two ranks against one."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch.multiprocessing import spawn  # noqa: E402  # it needs torch, too

from tests.train.tiny_encoders import batch, encoder  # noqa: E402
from train.batch import Batch  # noqa: E402
from train.config import OptimizerConfig  # noqa: E402
from train.contrastive import contrastive_loss  # noqa: E402
from train.distribution import WAYS, distribute  # noqa: E402
from train.gradients import backward  # noqa: E402
from train.optimizers import build_optimizer, set_learning_rate  # noqa: E402

CHANCE: tuple[dict[str, Any], ...] = (
    {"dropout": 0.3, "image_tower": "timm:mobilenetv3_small_050", "drop_path": 0.5},
    {"dropout": 0.3},
)
"""Batch norm and all that is drawn by chance; the second is quick to compute."""


def plain(model: Any, given: Batch, microbatch: int, loss: Any) -> Any:
    """Return the loss of a graph that holds all parts at once, and leave its gradients."""
    parts = (one.split(microbatch) for one in (given.images, given.tokens, given.mask))
    told = [model(*part) for part in zip(*parts, strict=True)]
    images, texts = (torch.cat(one) for one in list(zip(*told, strict=True))[:2])
    value = loss(images, texts, model.log_scale)
    value.backward()
    return value.detach()


def gradients(model: Any) -> dict[str, Any]:
    return {name: one.grad for name, one in model.named_parameters()}


def statistics(model: Any) -> dict[str, Any]:
    return {name: one for name, one in model.named_buffers() if "running" in name}


@pytest.mark.parametrize("microbatch", [4, 10])
@pytest.mark.parametrize(
    "changes", [*CHANCE, *({**one, "checkpoint_activations": True} for one in CHANCE)]
)
def test_gradients_of_parts_are_those_of_the_batch(
    changes: dict[str, Any], microbatch: int
) -> None:
    if "image_tower" in changes:
        pytest.importorskip("timm", reason="needs the extra train")
    ours, given = encoder(**changes, temperature=0.1), batch(10)
    whole = copy.deepcopy(ours)
    loss = partial(contrastive_loss, groups=given.texts)

    torch.manual_seed(5)
    told = backward(ours, given, microbatch, loss)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    expected = plain(whole, given, microbatch, loss)

    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(gradients(ours), gradients(whole), rtol=1e-4, atol=1e-6)
    assert (drawn == torch.rand(1)).all()
    if "checkpoint_activations" not in changes:  # where `plain` moves them twice
        torch.testing.assert_close(statistics(ours), statistics(whole))


def test_layers_that_run_again_do_not_move_statistics_again() -> None:
    pytest.importorskip("timm", reason="needs the extra train")
    found = []
    for checkpoint_activations, microbatch in ((False, 6), (True, 6), (True, 3), (False, 3)):
        model = encoder(**CHANCE[0], checkpoint_activations=checkpoint_activations)
        backward(model, batch(6), microbatch, contrastive_loss)
        found.append(statistics(model))
        assert {one.momentum for one in model.modules() if hasattr(one, "momentum")} == {0.1}

    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[2], found[3], rtol=0, atol=0)


def test_without_the_same_dropout_gradients_would_be_others() -> None:
    ours, given = encoder(dropout=0.3, temperature=0.1), batch(8)
    whole = copy.deepcopy(ours)
    torch.manual_seed(5)
    backward(ours, given, 4, contrastive_loss)

    def draws(*vectors: Any) -> Any:
        torch.manual_seed(6)
        return contrastive_loss(*vectors)

    torch.manual_seed(5)
    backward(whole, given, 4, draws)

    right, wrong = (
        torch.cat([one.flatten() for one in gradients(model).values()]) for model in (ours, whole)
    )
    assert (right - wrong).norm() > 0.1 * right.norm()


def test_gradients_are_added_to_those_that_are_there() -> None:
    model, given = encoder(), batch(6)
    backward(model, given, 2, contrastive_loss)
    once = {name: one.clone() for name, one in gradients(model).items()}

    backward(model, given, 2, contrastive_loss)

    twice = {name: 2 * one for name, one in once.items()}
    torch.testing.assert_close(gradients(model), twice)


@pytest.mark.gpu
@pytest.mark.parametrize("changes", CHANCE)
def test_on_a_gpu_the_same_numbers_are_drawn_in_both_passes(changes: dict[str, Any]) -> None:
    ours, given = encoder(**changes, precision="fp32", temperature=0.1).cuda(), batch(8)
    tensors = (one.cuda() for one in (given.images, given.tokens, given.mask, given.texts))
    given, whole = Batch(*tensors, given.keys), copy.deepcopy(ours)

    torch.manual_seed(5)
    told = backward(ours, given, 4, contrastive_loss)
    torch.manual_seed(5)
    expected = plain(whole, given, 4, contrastive_loss)

    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(gradients(ours), gradients(whole), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_compiled_towers_draw_the_same_numbers_in_both_passes() -> None:
    model = encoder(dropout=0.3, compile=True, text_layers=1, vision_layers=1, temperature=0.1)
    whole, given = copy.deepcopy(model), batch(8)

    torch.manual_seed(5)
    told = backward(model, given, 4, contrastive_loss)
    torch.manual_seed(5)
    expected = plain(whole, given, 4, contrastive_loss)

    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(gradients(model), gradients(whole), rtol=1e-3, atol=1e-5)


RANKS, STEPS, PAIRS = 2, 3, 8
OPTIMIZERS = (
    OptimizerConfig(learning_rate=0.05, warmup_steps=2, weight_decay=0.1),
    OptimizerConfig(name="adamw", learning_rate=0.01, warmup_steps=2, epsilon=1e-3),
)


def learn(how: str, config: OptimizerConfig, rank: int = 0, ranks: int = 1) -> dict[str, Any]:
    """Take a few steps from the same weights, and return the losses and what was learnt."""
    model = encoder(temperature=0.1)
    called = distribute(model, how) if how else model
    optimizer, losses = build_optimizer(model, config), []
    for step in range(STEPS):
        every = batch(PAIRS, seed=step)
        own = slice(rank * PAIRS // ranks, (rank + 1) * PAIRS // ranks)
        tensors = (one[own] for one in (every.images, every.tokens, every.mask, every.texts))
        given = Batch(*tensors, every.keys[own])
        set_learning_rate(optimizer, config, step, STEPS)
        optimizer.zero_grad()
        loss = partial(contrastive_loss, groups=given.texts)
        losses.append(backward(called, given, PAIRS // ranks // (1 + step % 2), loss))
        optimizer.step()
    whole = {
        name: one.full_tensor() if hasattr(one, "full_tensor") else one
        for name, one in model.state_dict().items()
    }
    with torch.no_grad():
        vectors = model.encode_image(every.images), model.encode_text(every.tokens, every.mask)
    return {"losses": torch.stack(losses), "vectors": torch.cat(vectors), **whole}


def learn_on_a_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS
    )
    told = {
        (how, config.name): learn(how, config, rank, RANKS) for how in WAYS for config in OPTIMIZERS
    }
    torch.save(told, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_learn_what_one_would(tmp_path: Path) -> None:
    spawn(learn_on_a_rank, (str(tmp_path),), nprocs=RANKS)

    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    for config in OPTIMIZERS:
        expected = learn("", config)
        for how in WAYS:
            for told in ranks:
                torch.testing.assert_close(told[how, config.name], expected, rtol=1e-3, atol=1e-4)
