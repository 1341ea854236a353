"""Image towers: EfficientNet against a plain one, and all of them against what training needs."""

import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("timm", reason="needs the extra train")

from torch import nn  # noqa: E402  # it needs torch, too
from torch.nn import functional  # noqa: E402

from filters.rule import RecipeError  # noqa: E402
from tests.train.tiny_encoders import batch, config, encoder  # noqa: E402
from train.towers import build_image_tower  # noqa: E402

B0 = (
    (1, 3, 1, 1),
    (6, 3, 2, 2),
    (6, 5, 2, 2),
    (6, 3, 2, 3),
    (6, 5, 1, 3),
    (6, 5, 2, 4),
    (6, 3, 1, 1),
)
"""Expansion, kernel, stride and layers of its stages: EfficientNet, table 1."""
TOWERS = (
    {"image_tower": "efficientnet-b0", "drop_path": 0.2},
    {},
    {"convolutions": True},
    {"image_tower": "timm:resnet18"},
    {"image_tower": "timm:convnext_atto", "drop_path": 0.1},
    {"image_tower": "timm:vit_tiny_patch16_224", "drop_path": 0.1},
    {"image_tower": "timm:mobilenetv3_small_050"},
)


class PlainEfficientNet:
    """B0 in evaluation by its weights, written down from the paper and TensorFlow's padding."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights

    def convolve(self, states: Any, name: str, stride: int = 1, groups: int = 1) -> Any:
        weight = self.weights[f"{name}.weight"]
        size, kernel = states.shape[-1], weight.shape[-1]
        padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before = padding // 2
        sides = (before, padding - before)
        padded = functional.pad(states, (*sides, *sides))
        bias = self.weights.get(f"{name}.bias")
        return functional.conv2d(padded, weight, bias, stride, groups=groups)

    def norm(self, states: Any, name: str) -> Any:
        mean, variance, weight, bias = (
            self.weights[f"{name}.{one}"][:, None, None]
            for one in ("running_mean", "running_var", "weight", "bias")
        )
        return (states - mean) / (variance + 1e-3).sqrt() * weight + bias

    def block(self, states: Any, name: str, expansion: int, stride: int) -> Any:
        inner, norms = states, iter(("bn1", "bn2", "bn3"))
        if expansion > 1:
            inner = self.convolve(inner, f"{name}.conv_pw")
            inner = swish(self.norm(inner, f"{name}.{next(norms)}"))
        inner = self.convolve(inner, f"{name}.conv_dw", stride, groups=inner.shape[1])
        inner = swish(self.norm(inner, f"{name}.{next(norms)}"))
        gate = inner.mean((2, 3), keepdim=True)
        gate = self.convolve(
            swish(self.convolve(gate, f"{name}.se.conv_reduce")), f"{name}.se.conv_expand"
        )
        inner = inner * torch.sigmoid(gate)
        last = "conv_pwl" if expansion > 1 else "conv_pw"
        inner = self.norm(self.convolve(inner, f"{name}.{last}"), f"{name}.{next(norms)}")
        return inner + states if inner.shape == states.shape else inner

    def __call__(self, pixels: Any) -> Any:
        states = swish(self.norm(self.convolve(pixels, "conv_stem", 2), "bn1"))
        for stage, (expansion, _, stride, layers) in enumerate(B0):
            for layer in range(layers):
                name = f"blocks.{stage}.{layer}"
                states = self.block(states, name, expansion, stride if layer == 0 else 1)
        return states


def swish(states: Any) -> Any:
    return states * torch.sigmoid(states)


@pytest.mark.parametrize("px", [65, 96])
def test_efficientnet_is_that_of_the_paper_with_padding_as_in_tensorflow(px: int) -> None:
    torch.manual_seed(0)
    tower, width = build_image_tower(config(image_tower="efficientnet-b0", drop_path=0.2))
    weights = tower.state_dict()
    for name, one in weights.items():
        if "running" in name or name.endswith("bias"):
            one.copy_(torch.rand_like(one) + ("var" in name))
    pixels = torch.randn(2, 3, px, px)

    with torch.no_grad():
        ours = tower.eval()(pixels)

    plain = PlainEfficientNet(weights)(pixels)
    assert ours.shape == (2, width)
    torch.testing.assert_close(ours, plain.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_kernels_of_efficientnet_are_those_of_the_paper() -> None:
    weights = build_image_tower(config(image_tower="efficientnet-b0"))[0].state_dict()

    for stage, (_, kernel, _, layers) in enumerate(B0):
        names = [name for name in weights if name.startswith(f"blocks.{stage}.")]
        assert {int(name.split(".")[2]) for name in names} == set(range(layers))
        depthwise = [weights[name].shape for name in names if name.endswith("conv_dw.weight")]
        assert {shape[1:] for shape in depthwise} == {(1, kernel, kernel)}


def test_an_image_of_289_px_ends_as_10_by_10() -> None:
    tower, width = build_image_tower(config(image_tower="efficientnet-b0", image_px=289))

    with torch.no_grad():
        states = tower.eval().forward_features(torch.zeros(1, 3, 289, 289))

    assert states.shape == (1, width, 10, 10)


@pytest.mark.parametrize(
    ("size", "width", "millions"),
    [("b0", 320, 5.3), ("b3", 384, 12), ("b5", 512, 30), ("b7", 640, 66), ("l2", 1376, 480)],
)
def test_sizes_of_efficientnet_are_those_published_but_for_the_classifier(
    size: str, width: int, millions: float
) -> None:
    with torch.device("meta"):
        tower, got = build_image_tower(config(image_tower=f"efficientnet-{size}"))

    assert got == width
    head = 4 * width  # its convolution's channels: 1280 of B0
    classifier = width * head + 2 * head + head * 1000 + 1000
    count = sum(one.numel() for one in tower.parameters()) + classifier
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


def test_norms_and_blocks_are_trained_as_in_the_paper() -> None:
    tower, _ = build_image_tower(config(image_tower="efficientnet-b0", drop_path=0.2))

    norms = [one for one in tower.modules() if isinstance(one, nn.BatchNorm2d)]
    assert {(round(one.momentum, 9), one.eps) for one in norms} == {(0.01, 1e-3)}
    rates = [
        getattr(layer.drop_path, "drop_prob", 0.0) for stage in tower.blocks for layer in stage
    ]
    assert rates == pytest.approx([0.2 * place / 16 for place in range(16)])
    names = [name for name, one in tower.named_modules() if isinstance(one, nn.Conv2d)]
    assert "conv_head" not in names
    depthwise = tower.blocks[5][1].conv_dw.weight
    assert float(depthwise.detach().std()) == pytest.approx((2 / 25) ** 0.5, rel=0.05)


@pytest.mark.parametrize("changes", TOWERS)
def test_each_parameter_has_a_part_in_the_vectors(changes: dict[str, Any]) -> None:
    model, given = encoder(**changes), batch(4)

    images, texts, log_scale = model(given.images, given.tokens, given.mask)

    direction = torch.arange(12.0)
    (images @ direction + texts @ direction + log_scale).sum().backward()
    assert [name for name, one in model.named_parameters() if one.grad is None] == []
    for vectors in (images, texts):
        assert (vectors.dtype, vectors.shape) == (torch.float32, (4, 12))
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("changes", TOWERS[:3])
def test_activations_that_are_not_kept_change_no_gradient(changes: dict[str, Any]) -> None:
    found, kept, names = [], [], []
    for checkpoint_activations in (False, True):
        model = encoder(**changes, dropout=0.3, checkpoint_activations=checkpoint_activations)
        given, sizes = batch(4), []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda one, sizes=sizes: (sizes.append(one.numel()), one)[1], lambda one: one
        )
        torch.manual_seed(3)
        with hooks:
            images, texts, _ = model(given.images, given.tokens, given.mask)
        (images.sum() + texts.sum()).backward()
        found.append([one.grad for one in model.parameters() if one.grad is not None])
        kept.append(sum(sizes))
        names.append(list(model.state_dict()))

    assert names[0] == names[1]
    assert kept[1] < kept[0] / 2
    torch.testing.assert_close(found[0], found[1])


def test_a_tower_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(RecipeError, match="must be known to timm, got 'resnet5000'"):
        encoder(image_tower="timm:resnet5000")


def test_a_tower_without_stochastic_depth_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(
        RecipeError, match=r"must take model.drop_path, got 'vgg11': .*; set it to 0"
    ):
        encoder(image_tower="timm:vgg11", drop_path=0.1)


def test_timm_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(RecipeError, match=r'must have timm .*; pip install "altmill\[train\]"'):
        encoder(image_tower="efficientnet-b0")


def test_our_own_transformer_needs_no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    assert encoder().image_projection.in_features == 16
