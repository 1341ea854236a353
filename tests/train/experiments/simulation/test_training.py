"""Training does what a plain loop over neurons and pairs does, in every world alike."""

from itertools import repeat

import pytest

pytest.importorskip("torch", reason="needs the extra train")

import torch
from torch import Tensor

from train.experiments.simulation.captioner import Captioner, rewrite, train_captioner
from train.experiments.simulation.pairs import Pairs, Purpose, draw_pairs, draw_world, random_stream
from train.experiments.simulation.setting import Setting
from train.experiments.simulation.training import (
    Unit,
    Weights,
    contrast,
    draw_weights,
    make_towers,
    shuffled,
    train,
)

TINY = Setting(num_inputs=30, num_features=20, num_neurons=7, num_clean=8, num_raw=24, batch=8)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=stream, dtype=torch.float64)


def plain_loss(images: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Return the paper's sum, term by term."""
    total = torch.zeros((), dtype=images.dtype)
    for p in range(len(images)):
        total = total - images[p] @ texts[p]
        for n in range(len(images)):
            if n != p:
                total = total + (images[n] @ texts[p]) ** 2 / (2 * temperature)
                total = total + (images[p] @ texts[n]) ** 2 / (2 * temperature)
    return total


def test_the_loss_and_its_slopes_are_those_of_the_sum_over_pairs() -> None:
    images, texts = numbers(2, 6, 4).requires_grad_(), numbers(2, 6, 4, seed=1).requires_grad_()

    loss, by_images, by_texts = contrast(images, texts, 3.0)
    plain = torch.stack([plain_loss(f, h, 3.0) for f, h in zip(images, texts, strict=True)])
    slopes = torch.autograd.grad(plain.sum(), (images, texts))

    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(by_images, slopes[0])
    torch.testing.assert_close(by_texts, slopes[1])


@pytest.mark.parametrize("kind", ["relu", "shifted"])
def test_a_step_goes_down_the_gradient_of_the_sum(kind: str) -> None:
    images, texts = numbers(8, 30, seed=2), numbers(3, 8, 30, seed=3)
    first = Weights(numbers(3, 7, 30, seed=4), numbers(3, 7, 30, seed=5))
    setting = Setting(**{**settings(), "steps": 1, "measured_every": 1, "unit": kind})
    shorter = Weights(first.image / 3, first.text / 3)  # so that shifted units have a bias
    towers = make_towers(setting, shorter).at(first.clone())

    train(towers, repeat((images, texts)), setting, lambda _step, _towers: None)

    for world in range(3):
        w, v = (one[world].clone().requires_grad_() for one in (first.image, first.text))
        f = plain_unit(towers.image_unit, images @ w.T, w, first.image[world])
        h = plain_unit(towers.text_unit, texts[world] @ v.T, v, first.text[world])
        slopes = torch.autograd.grad(plain_loss(f, h, setting.temperature), (w, v))
        # float32 products in the towers, float64 here
        expected = (w - 0.001 * slopes[0]).detach(), (v - 0.001 * slopes[1]).detach()
        torch.testing.assert_close(towers.weights.image[world], expected[0], atol=2e-6, rtol=2e-6)
        torch.testing.assert_close(towers.weights.text[world], expected[1], atol=2e-6, rtol=2e-6)


def settings() -> dict[str, int]:
    names = ("num_inputs", "num_features", "num_neurons", "num_clean", "num_raw", "batch")
    return {name: getattr(TINY, name) for name in names}


def plain_unit(unit: Unit, seen: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    if unit.kind == "relu":
        return torch.relu(seen)
    bias = (unit.share * values.norm(dim=1)).detach()
    assert weights.shape == values.shape
    return torch.relu(seen - bias) - torch.relu(-seen - bias)


def test_a_shifted_unit_is_linear_until_its_neuron_has_doubled() -> None:
    weights = torch.ones(1, 2, 4) * torch.tensor([1.5, 3.0])[None, :, None]
    unit = Unit("shifted", torch.full((1, 2), 2.0), 0.5)  # lengths 3 and 6, at first 2
    seen = torch.tensor([[[1.0, 1.0], [-5.0, -5.0], [4.0, 4.0]]])

    said, slopes = unit(seen, weights)

    assert said.tolist() == [[[1.0, 0.0], [-5.0, -2.0], [4.0, 1.0]]]
    assert slopes.tolist() == [[[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]]


def tiny_pairs(spurious: tuple[float, ...]) -> tuple[Setting, Pairs]:
    setting = Setting(
        **settings(), spurious=spurious, steps=20, measured_every=5, learning_rate=0.03
    )
    world = draw_world(setting, random_stream(0, 0, Purpose.WORLD, "cpu"))
    pairs = draw_pairs(setting, 8, 24, world, random_stream(0, 0, Purpose.TRAINING, "cpu"))
    return setting, pairs


def learnt(spurious: tuple[float, ...]) -> Weights:
    setting, pairs = tiny_pairs(spurious)
    weights = draw_weights(setting, len(spurious), random_stream(0, 0, Purpose.WEIGHTS, "cpu"))
    batches = shuffled(pairs, 8, random_stream(0, 0, Purpose.BATCHES, "cpu"))
    train(make_towers(setting, weights), batches, setting, lambda _step, _towers: None)
    return weights


def test_worlds_side_by_side_learn_what_each_learns_alone() -> None:
    together = learnt((0.0, 0.3, 0.5))

    alone = learnt((0.0, 0.5))

    torch.testing.assert_close(together[[0, 2]].image, alone.image, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together[[0, 2]].text, alone.text, atol=1e-4, rtol=1e-3)
    assert (together.image[0] - together.image[2]).abs().max() > 1e-3


def test_the_temperature_only_rescales() -> None:
    images, texts = numbers(8, 30), numbers(1, 8, 30, seed=1)
    small = Weights(numbers(1, 7, 30, seed=2), numbers(1, 7, 30, seed=3))
    large = Weights(small.image * 5, small.text * 5)
    for weights, temperature in ((small, 4.0), (large, 100.0)):
        setting = Setting(**settings(), temperature=temperature, steps=5, measured_every=5)
        towers = make_towers(setting, weights)
        train(towers, repeat((images, texts)), setting, lambda _step, _towers: None)

    torch.testing.assert_close(large.image, small.image * 5, atol=1e-4, rtol=1e-4)


def test_every_pair_is_seen_before_one_is_seen_again() -> None:
    _, pairs = tiny_pairs((0.0,))
    batches = shuffled(pairs, 8, random_stream(0, 0, Purpose.BATCHES, "cpu"))

    for _ in range(3):
        seen = torch.cat([next(batches)[0] for _ in range(4)])
        assert len(seen.unique(dim=0)) == len(pairs.images)


def test_the_captioner_goes_down_the_gradient_of_the_squared_error() -> None:
    images, texts = numbers(8, 30, seed=2), numbers(1, 8, 30, seed=3)
    first = Weights(numbers(2, 7, 30, seed=4) / 9, numbers(2, 7, 30, seed=5) / 9)
    setting = Setting(**settings(), caption_steps=1)

    captioner = train_captioner(make_towers(setting, first), repeat((images, texts)), setting)

    for world in range(2):
        w, v = (one[world].clone().requires_grad_() for one in (first.image, first.text))
        loss = sum(
            ((y - v.T @ torch.relu(w @ x)) ** 2).sum() / 2
            for x, y in zip(images, texts[0], strict=True)
        )
        slopes = torch.autograd.grad(loss, (w, v))
        after = captioner.towers.weights
        for found, one, slope in ((after.image, w, slopes[0]), (after.text, v, slopes[1])):
            expected = (one - 0.001 * slope).detach()
            torch.testing.assert_close(found[world], expected, atol=2e-6, rtol=2e-6)


def test_a_raw_text_goes_only_where_its_caption_is_strictly_nearer() -> None:
    setting, drawn = tiny_pairs((0.0, 0.5))
    pairs = Pairs(drawn.images.float(), drawn.texts.float(), drawn.codes, drawn.named, 8)
    weights = draw_weights(setting, 2, random_stream(0, 0, Purpose.WEIGHTS, "cpu"))
    towers = make_towers(setting, weights)
    captioner = Captioner(make_towers(setting, weights.clone()))

    found = rewrite(towers, captioner, pairs)

    for world in range(2):
        w, v = weights.image[world], weights.text[world]
        for row in range(32):
            image, text = pairs.images[row], pairs.texts[world, row]
            caption = v.T @ torch.relu(w @ image)
            f = torch.relu(w @ image)
            nearer = plain_cosine(f, torch.relu(v @ caption)) > plain_cosine(
                f, torch.relu(v @ text)
            )
            taken = row >= 8 and bool(nearer)
            assert bool(found.replaced[world, row]) == taken
            torch.testing.assert_close(found.texts[world, row], caption if taken else text)
    assert 0 < int(found.replaced.sum()) < 48


def plain_cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.norm() * b.norm())
