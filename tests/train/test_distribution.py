"""Two ranks, with copies or with shares of the model, against one."""

from functools import partial
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

RANKS, STEPS, PAIRS = 2, 3, 8
OPTIMIZERS = (
    OptimizerConfig(learning_rate=0.05, warmup_steps=2, weight_decay=0.1, epsilon=1e-3),
    OptimizerConfig(name="adamw", learning_rate=0.01, warmup_steps=2, epsilon=1e-3),
)
# As good as SGD: Adam divides by what rounding leaves of a gradient that is nearly none
GENTLE = OptimizerConfig(name="adamw", learning_rate=0.1, warmup_steps=2, epsilon=1.0)
NORMALISED: dict[str, Any] = {"tower": "efficientnet-b0", "microbatch": PAIRS // RANKS}


def learn(
    how: str,
    config: OptimizerConfig,
    rank: int = 0,
    ranks: int = 1,
    *,
    tower: str = "vit",
    microbatch: int = 0,
) -> dict[str, Any]:
    """Take a few steps from the same weights, and return the losses and what was learnt.

    Without a `microbatch` it is, in turns, all pairs of a rank and half of them.
    """
    px = 32 if tower == "vit" else 96  # an EfficientNet sees a 32nd of it: 3 x 3 to normalise
    model = encoder(temperature=0.1, image_tower=tower, image_px=px)
    called = distribute(model, how) if how else model
    optimizer, losses = build_optimizer(model, config), []
    for step in range(STEPS):
        every = batch(PAIRS, seed=step, px=px)
        own = slice(rank * PAIRS // ranks, (rank + 1) * PAIRS // ranks)
        tensors = (one[own] for one in (every.images, every.tokens, every.mask, every.texts))
        given = Batch(*tensors, every.keys[own])
        set_learning_rate(optimizer, config, step, STEPS)
        optimizer.zero_grad()
        loss = partial(contrastive_loss, groups=given.texts)
        size = microbatch or PAIRS // ranks // (1 + step % 2)
        losses.append(backward(called, given, size, loss))
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
    for how in WAYS:
        told[how, "normalised"] = learn(how, GENTLE, rank, RANKS, **NORMALISED)
    torch.save(told, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], Any]]:
    """Return what each rank learnt, by how the model was shared and by what taught it."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(learn_on_a_rank, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def test_two_ranks_learn_what_one_would(ranks: list[dict[tuple[str, str], Any]]) -> None:
    for config in OPTIMIZERS:
        expected = learn("", config)
        for how in WAYS:
            for told in ranks:
                torch.testing.assert_close(told[how, config.name], expected, rtol=1e-3, atol=1e-4)


def test_batch_norm_on_two_ranks_is_that_of_microbatches_on_one(
    ranks: list[dict[tuple[str, str], Any]],
) -> None:
    expected = learned(learn("", GENTLE, **NORMALISED))
    others = learned(learn("", GENTLE, tower="efficientnet-b0", microbatch=PAIRS))
    for how in WAYS:
        for told in ranks:
            found = learned(told[how, "normalised"])
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
            assert not torch.allclose(found["losses"], others["losses"], rtol=1e-3)


def learned(told: dict[str, Any]) -> dict[str, Any]:
    """Leave out the statistics of batch norm, and vectors of images that it normalised."""
    statistics = ("running_mean", "running_var", "num_batches_tracked", "vectors")
    return {name: one for name, one in told.items() if not name.endswith(statistics)}
