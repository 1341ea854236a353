"""The mixture of encoder and decoder: its shapes, what it shares, and what sees what."""

import pytest

from filters.rule import RecipeError

torch = pytest.importorskip("torch", reason="needs the extra recaption")

from tests.recaption import tiny  # noqa: E402  # needs torch


def close(a: object, b: object) -> bool:
    return bool(torch.allclose(a, b, atol=1e-5))


@pytest.fixture(autouse=True)
def _without_gradients() -> object:
    with torch.no_grad():
        yield


def test_each_output_has_its_shape_and_vectors_have_length_1() -> None:
    model, ids = tiny.blip(), tiny.texts(6, 5, tiny.CLS)
    mask = torch.ones_like(ids)

    states = model.encode_image(tiny.pixels(2))
    image, text = model.project_image(states), model.encode_text(ids, mask)

    assert states.shape == (2, 10, 16)
    assert image.shape == (2, 8)
    assert text.shape == (6, 8)
    assert close(image.norm(dim=-1), torch.ones(2))
    assert close(text.norm(dim=-1), torch.ones(6))
    assert model.match(ids, mask, states).shape == (6, 2)
    assert model.logits(ids, mask, states).shape == (6, 5, tiny.VOCABULARY)


def test_padding_changes_nothing() -> None:
    model, ids = tiny.blip(), tiny.texts(2, 5, tiny.CLS)
    states = model.encode_image(tiny.pixels(2))
    padded = torch.cat((ids, torch.full((2, 3), tiny.PAD)), 1)
    mask, long_mask = torch.ones_like(ids), (padded != tiny.PAD).long()

    assert close(model.encode_text(padded, long_mask), model.encode_text(ids, mask))
    assert close(model.match(padded, long_mask, states), model.match(ids, mask, states))
    assert close(model.logits(padded, long_mask, states)[:, :5], model.logits(ids, mask, states))


def test_the_decoder_does_not_see_what_comes_later_and_the_encoder_does() -> None:
    model, ids = tiny.blip(), tiny.texts(1, 6, tiny.DEC)
    states, mask = model.encode_image(tiny.pixels(1)), torch.ones_like(ids)
    other = ids.clone()
    other[:, -1] = tiny.ENC

    assert close(model.logits(ids, mask, states)[:, :-1], model.logits(other, mask, states)[:, :-1])
    assert not close(model.match(ids, mask, states), model.match(other, mask, states))


def test_texts_that_share_an_image_get_what_each_gets_alone() -> None:
    model, ids = tiny.blip(), tiny.texts(6, 5, tiny.DEC)
    states, mask = model.encode_image(tiny.pixels(2)), torch.ones_like(ids)
    copied = states.repeat_interleave(3, 0)

    assert close(model.logits(ids, mask, states), model.logits(ids, mask, copied))
    assert close(model.match(ids, mask, states), model.match(ids, mask, copied))


@pytest.mark.parametrize("prompt", [1, 3])
def test_cached_is_uncached_token_by_token(prompt: int) -> None:
    model, ids = tiny.blip(), tiny.texts(4, 9, tiny.DEC)
    states = model.encode_image(tiny.pixels(2))
    images, cache = model.text.read_images(states), model.text.new_cache(4, 9)

    parts = [model.text(ids[:, :prompt], "decoder", None, images, cache)]
    parts += [
        model.text(ids[:, at : at + 1], "decoder", None, images, cache) for at in range(prompt, 9)
    ]

    expected = model.logits(ids, torch.ones_like(ids), states)
    assert close(model.word_logits(torch.cat(parts, 1)), expected)


def test_a_cache_is_reordered_and_repeated() -> None:
    model, ids = tiny.blip(), tiny.texts(2, 4, tiny.DEC)
    images = model.text.read_images(model.encode_image(tiny.pixels(1)))
    cache = model.text.new_cache(2, 8)
    model.text(ids, "decoder", None, images, cache)
    before = cache.states.clone()

    twice = cache.repeat(2)
    twice.reorder(torch.tensor([3, 0, 1, 1]))

    assert twice.length == 4
    assert torch.equal(twice.states, before[:, :, [1, 0, 0, 0]])


def test_encoder_and_decoder_share_all_but_self_attention() -> None:
    own = [name for name, _ in tiny.blip().text.named_parameters() if "coder" in name]
    both = sum(weight.numel() for weight in tiny.blip().text.parameters())
    one = sum(weight.numel() for weight in tiny.blip(encoder=False).text.parameters())

    assert all(".attention." in name for name in own)
    assert both - one == 2 * (4 * 24 * 24 + 4 * 24 + 2 * 24)  # layers x (q, k, v, out; LayerNorm)


def test_weights_begin_with_what_bert_and_the_vision_transformer_begin_with() -> None:
    model = tiny.blip(scale=1.0, vision_width=64, text_width=96)

    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            assert weight.std().item() == pytest.approx(0.02, rel=0.2), name
    assert model.temperature.item() == pytest.approx(0.07)


def test_the_temperature_stays_in_its_bounds() -> None:
    model, found = tiny.blip(), []
    for value in (-1.0, 0.1, 2.0):
        model.temperature.fill_(value)
        model.clamp_temperature()
        found.append(round(model.temperature.item(), 6))

    assert found == [0.001, 0.1, 0.5]


def test_in_bfloat16_what_is_compared_is_float32() -> None:
    model, ids = tiny.blip(scale=1.0), tiny.texts(2, 5, tiny.CLS)
    mask = torch.ones_like(ids)
    exact = model.encode_text(ids, mask)

    with torch.autocast("cpu", torch.bfloat16):
        states = model.encode_image(tiny.pixels(2))
        found = [
            model.project_image(states),
            model.encode_text(ids, mask),
            model.match(ids, mask, states),
            model.logits(ids, mask, states),
        ]

    assert [one.dtype for one in found] == [torch.float32] * 4
    assert close(found[0].norm(dim=-1), torch.ones(2))
    assert (found[1] * exact).sum(-1).min() > 0.99


def test_every_weight_learns() -> None:
    model, ids = tiny.blip().train(), tiny.texts(2, 5, tiny.CLS)
    mask = torch.ones_like(ids)
    with torch.enable_grad():
        states = model.encode_image(tiny.pixels(2))
        contrast = model.project_image(states) @ model.encode_text(ids, mask).T / model.temperature
        matched, written = model.match(ids, mask, states), model.logits(ids, mask, states)
        sum(part.logsumexp(-1).square().sum() for part in (contrast, matched, written)).backward()

    assert [name for name, w in model.named_parameters() if w.grad is None] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"patch_px": 7}, r"model\.image_px must be a multiple of model\.patch_px, got 24 and 7"),
        ({"text_layers": 0}, r"model\.text_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, r"model\.dropout must be in \[0, 1\), got 1\.0"),
        ({"encoder": False, "decoder": False}, r"must be true, got neither"),
    ],
)
def test_a_size_that_cannot_be_is_refused(change: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        tiny.config(**change)
