"""The slow copy and its queue, against a plain list."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra recaption")

from recaption.blip import Blip  # noqa: E402  # it needs torch, too
from recaption.momentum import Momentum  # noqa: E402
from tests.recaption.test_training import TINY  # noqa: E402

CONFIG = replace(TINY, vocabulary=20)


def test_the_copy_follows_slowly_and_nothing_reaches_it_back() -> None:
    torch.manual_seed(0)
    model, other = Blip(CONFIG), Blip(CONFIG)
    slow = Momentum(model, queue=4, momentum=0.9)

    slow.follow(other)

    ours = dict(slow.model.named_parameters())
    for (name, before), after in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours[name], 0.9 * before + 0.1 * after, atol=1e-7)
        assert not ours[name].requires_grad


@pytest.mark.parametrize("queue", [2, 7])
def test_the_queue_is_a_ring_of_the_last_pairs(queue: int) -> None:
    torch.manual_seed(0)
    slow = Momentum(Blip(CONFIG), queue, momentum=0.9)
    mask = torch.ones(3, 5)
    seen: list[tuple[float, ...]] = []

    for batch in range(4):
        pixels, ids = torch.randn(3, 3, 8, 8), torch.randint(7, 20, (3, 5))
        caption = torch.arange(3) + 10 * batch
        teacher = slow.teach(pixels, ids, mask, caption, 0.4)

        assert teacher.image.shape == teacher.text.shape == (3 + queue, CONFIG.embed_width)
        assert teacher.caption[:3].tolist() == caption.tolist()
        queued = [
            (int(number), *image.tolist())
            for number, image in zip(teacher.caption[3:], teacher.image[3:], strict=True)
            if number != -1
        ]
        assert sorted(queued) == sorted(seen)
        new = zip(caption.tolist(), teacher.image[:3].tolist(), strict=True)
        seen = [*seen, *((number, *image) for number, image in list(new)[:queue])][-queue:]
