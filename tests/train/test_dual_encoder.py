"""The dual encoder: what its vectors depend on, and what they do not."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.train.tiny_encoders import batch, encoder  # noqa: E402  # it needs torch, too


def test_padding_changes_no_text() -> None:
    model, given = encoder().eval(), batch(6)

    together = model.encode_text(given.tokens, given.mask)

    for row, length in enumerate(given.mask.sum(1).tolist()):
        tokens = given.tokens[row : row + 1, :length]
        alone = model.encode_text(tokens, torch.ones_like(tokens, dtype=torch.bool))
        torch.testing.assert_close(together[row : row + 1], alone)


def test_colours_are_scaled_by_the_means_and_deviations_of_the_settings() -> None:
    model, given = encoder(colour_mean=(0.1, 0.2, 0.3), colour_std=(0.4, 0.5, 0.6)), batch(2)
    seen = []
    model.image.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    model.encode_image(given.images)

    plain = given.images.double() / 255
    for channel, (mean, std) in enumerate(((0.1, 0.4), (0.2, 0.5), (0.3, 0.6))):
        plain[:, channel] = (plain[:, channel] - mean) / std
    torch.testing.assert_close(seen[0].double(), plain, rtol=1e-6, atol=1e-6)


def test_where_the_channels_lie_changes_no_image() -> None:
    given = batch(3).images
    models = [
        encoder(image_tower="timm:resnet18", channels_last=value).eval() for value in (True, False)
    ]

    first, last = (model.encode_image(given) for model in models)

    torch.testing.assert_close(first, last)


def test_an_image_tower_of_the_common_width_has_no_projection() -> None:
    wide, same = encoder(embed_width=20), encoder(embed_width=16)

    assert [name for name, _ in wide.named_parameters() if name.startswith("image_projection")] == [
        "image_projection.weight",
        "image_projection.bias",
    ]
    assert list(same.image_projection.parameters()) == []


def test_projections_may_have_no_bias() -> None:
    model = encoder(projection_bias=False)

    assert model.image_projection.bias is None
    assert model.text_projection.bias is None


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_the_temperature_begins_as_told(temperature: float) -> None:
    model = encoder(temperature=temperature)

    assert 1 / math.exp(model.log_scale.item()) == pytest.approx(temperature)


@pytest.mark.parametrize(("value", "clamped"), [(-0.1, 0.0), (4.0, 4.0), (4.7, math.log(100))])
def test_the_log_scale_stays_in_its_bounds(value: float, clamped: float) -> None:
    model = encoder()
    torch.nn.init.constant_(model.log_scale, value)

    model.clamp_scale()

    assert model.log_scale.item() == pytest.approx(clamped)
