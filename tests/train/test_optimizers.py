"""LAMB against a loop over numbers, and which parameters are changed how."""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.train.tiny_encoders import batch, encoder  # noqa: E402  # it needs torch, too
from train.config import OptimizerConfig  # noqa: E402
from train.contrastive import contrastive_loss  # noqa: E402
from train.gradients import backward  # noqa: E402
from train.lamb import Lamb  # noqa: E402
from train.optimizers import build_optimizer, set_learning_rate  # noqa: E402

BETAS, EPS = (0.8, 0.95), 1e-3


def plain_lamb(
    layer: list[float], steps: list[list[float]], rate: float, decay: float, *, adapt: bool
) -> list[float]:
    """Return a layer's weights after steps of the paper's algorithm 2, number by number."""
    layer, mean, square = list(layer), [0.0] * len(layer), [0.0] * len(layer)
    for t, gradient in enumerate(steps, 1):
        change = []
        for i, g in enumerate(gradient):
            mean[i] = BETAS[0] * mean[i] + (1 - BETAS[0]) * g
            square[i] = BETAS[1] * square[i] + (1 - BETAS[1]) * g * g
            ratio = mean[i] / (1 - BETAS[0] ** t)
            ratio /= math.sqrt(square[i] / (1 - BETAS[1] ** t)) + EPS
            change.append(ratio + decay * layer[i])
        length, of_change = math.hypot(*layer), math.hypot(*change)
        trust = length / of_change if adapt and length > 0 and of_change > 0 else 1.0
        layer = [w - rate * trust * c for w, c in zip(layer, change, strict=True)]
    return layer


def test_lamb_is_that_of_the_paper() -> None:
    chance = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=chance, dtype=torch.float64) for shape in ((3, 4), 5, 2)]
    start[2].zero_()
    weights = [one.clone().requires_grad_() for one in start]
    groups = [
        {"params": [weights[0], weights[2]], "weight_decay": 0.1},
        {"params": [weights[1]], "adapt": False},
    ]
    optimizer = Lamb(groups, 0.02, BETAS, EPS)
    steps = [[torch.randn(one.shape, generator=chance).double() for one in start] for _ in range(4)]

    for gradients in steps:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()

    for place, (decay, adapt) in enumerate(((0.1, True), (0.0, False), (0.1, True))):
        told = [step[place].flatten().tolist() for step in steps]
        expected = plain_lamb(start[place].flatten().tolist(), told, 0.02, decay, adapt=adapt)
        assert weights[place].flatten().tolist() == pytest.approx(expected, rel=1e-9)


def test_lamb_goes_on_from_its_state() -> None:
    weights = [torch.ones(3, 2).requires_grad_() for _ in range(2)]
    first, second = (Lamb([one], 0.1) for one in weights)
    gradients = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(0))

    for place, gradient in enumerate(gradients):
        if place == 3:
            weights[1] = weights[1].detach().clone().requires_grad_()
            resumed = Lamb([weights[1]], 0.1)
            resumed.load_state_dict(second.state_dict())
            second = resumed
        for weight, optimizer in zip(weights, (first, second), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()

    assert (weights[0] == weights[1]).all()


def test_a_step_may_compute_the_loss_itself() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = Lamb([weight], 0.1)

    def closure() -> Any:
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert weight.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_biases_norms_and_the_log_scale_do_not_decay(name: str) -> None:
    model = encoder(image_tower="timm:resnet18") if _has_timm() else encoder()

    first, second = build_optimizer(model, OptimizerConfig(name=name)).param_groups

    assert (first["weight_decay"], second["weight_decay"]) == (1e-5, 0.0)
    assert (first.get("adapt"), second.get("adapt")) == (
        (True, False) if name == "lamb" else (None, None)
    )
    names = {id(one): name for name, one in model.named_parameters()}
    still = {names[id(one)] for one in second["params"]}
    assert still == {
        name
        for name in names.values()
        if name.endswith("bias")
        or "norm" in name
        or ".bn" in name
        or name == "log_scale"
        or ".downsample.1." in name
    }
    assert len(first["params"]) + len(second["params"]) == len(names)


def _has_timm() -> bool:
    import importlib.util

    return importlib.util.find_spec("timm") is not None


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_each_step_brings_the_log_scale_back_into_its_bounds(name: str) -> None:
    model = encoder(temperature=0.0101)
    optimizer = build_optimizer(model, OptimizerConfig(name=name, learning_rate=1.0))
    model.log_scale.grad = torch.tensor(-1.0)

    optimizer.step()

    assert model.log_scale.item() == pytest.approx(math.log(100))


@pytest.mark.parametrize(("name", "rate"), [("lamb", 0.02), ("adamw", 0.002)])
def test_eight_pairs_are_learnt_by_heart(name: str, rate: float) -> None:
    model, given = encoder(temperature=0.1), batch(8)
    optimizer = build_optimizer(model, OptimizerConfig(name=name, learning_rate=rate))
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        losses.append(backward(model, given, 8, contrastive_loss).item())
        optimizer.step()

    assert losses[-1] < 3 < 2 * math.log(8) < losses[0]  # the middle one is that of chance


@pytest.mark.parametrize(
    ("decay", "rates"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0]),
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_rises_and_falls(decay: str, rates: list[float]) -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=2, decay=decay)
    optimizer = build_optimizer(encoder(), config)

    told = [set_learning_rate(optimizer, config, step, 6) for step in range(7)]

    assert told == pytest.approx([2 * rate for rate in rates], abs=1e-6)
    assert {group["lr"] for group in optimizer.param_groups} == {told[-1]}
