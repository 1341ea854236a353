"""Weights laid out in blocks give the same numbers."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra recaption")

from recaption import packing  # noqa: E402  # needs torch
from recaption.packing import pack  # noqa: E402
from tests.recaption import tiny  # noqa: E402


def answers(model: Any) -> list[Any]:
    ids, mask = tiny.texts(6, 5, tiny.CLS), torch.ones(6, 5)
    with torch.inference_mode():
        states = model.encode_image(tiny.pixels(2))
        found = [states]
        if model.config.encoder:
            found += [model.encode_text(ids, mask), model.match(ids, mask, states)]
        if model.config.decoder:
            found += [model.logits(ids, mask, states)]
    return found


@pytest.mark.parametrize(
    "parts", [{}, {"encoder": False}, {"decoder": False}, {"convolutions": True}]
)
def test_a_packed_model_gives_the_same_answers(parts: dict[str, bool]) -> None:
    expected = answers(tiny.blip(**parts))

    packed = pack(tiny.blip(**parts))

    for found, one in zip(answers(packed), expected, strict=True):
        assert torch.allclose(found, one, atol=1e-4)
    linear = [m for m in packed.vision.modules() if isinstance(m, torch.nn.Linear)]
    assert linear == [] or not packing._can_pack()  # noqa: SLF001


def test_a_pytorch_that_cannot_pack_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_can_pack", lambda: False)

    packed = pack(tiny.blip())

    assert all(map(torch.equal, answers(packed), answers(tiny.blip())))
