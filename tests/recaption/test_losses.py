"""The losses: each against a plain loop, and the draws against their chances."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra recaption")

from recaption.losses import (  # noqa: E402  # it needs torch, too
    EVEN_CHANCE,
    Teacher,
    contrastive_loss,
    draw_negatives,
    matching_loss,
    writing_loss,
)

Rows = list[list[float]]
CAPTIONS = torch.tensor([7, 8, 7, 9])  # the first and the third are equal


def unit(seed: int, rows: int, width: int = 5) -> "torch.Tensor":
    chance = torch.Generator().manual_seed(seed)
    vectors = torch.randn(rows, width, generator=chance, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1)


def cosines(a: "torch.Tensor", b: "torch.Tensor", temperature: float) -> Rows:
    return [
        [sum(x * y for x, y in zip(p, q, strict=True)) / temperature for q in b.tolist()]
        for p in a.tolist()
    ]


def softmax(row: list[float], allowed: list[int]) -> dict[int, float]:
    total = sum(math.exp(row[j]) for j in allowed)
    return {j: math.exp(row[j]) / total for j in allowed}


def slow_direction(student: Rows, teacher: Rows, offered: list[int], alpha: float) -> float:
    """Mean cross-entropy of rows of logits, whose own column has their number."""
    loss = 0.0
    for i, row in enumerate(student):
        own = CAPTIONS.tolist()[i]
        allowed = [j for j, c in enumerate(offered) if j == i or c not in (own, -1)]
        target = softmax(teacher[i], allowed)
        chances = softmax(row, allowed)
        loss -= sum(
            (alpha * target[j] + (1 - alpha) * (j == i)) * math.log(chances[j]) for j in allowed
        )
    return loss / len(student)


def test_contrast_is_that_of_a_plain_loop_and_leaves_equal_captions_out() -> None:
    image, text = unit(0, 4), unit(1, 4)

    loss = contrastive_loss(image, text, CAPTIONS, torch.tensor(0.07))

    both = [cosines(image, text, 0.07), cosines(text, image, 0.07)]
    expected = sum(slow_direction(rows, rows, CAPTIONS.tolist(), 0) for rows in both) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_a_teacher_softens_targets_and_offers_its_queue() -> None:
    image, text = unit(0, 4), unit(1, 4)
    offered = [7, 8, 7, 9, 8, 3, -1]
    teacher = Teacher(unit(2, 7), unit(3, 7), torch.tensor(offered), 0.4)

    loss = contrastive_loss(image, text, CAPTIONS, torch.tensor(0.1), teacher)

    expected = slow_direction(
        cosines(image, teacher.text, 0.1),
        cosines(teacher.image[:4], teacher.text, 0.1),
        offered,
        0.4,
    ) + slow_direction(
        cosines(text, teacher.image, 0.1),
        cosines(teacher.text[:4], teacher.image, 0.1),
        offered,
        0.4,
    )
    assert float(loss) == pytest.approx(expected / 2, rel=1e-6)


def test_the_gradient_of_contrast_is_right_and_none_reaches_the_teacher() -> None:
    image, text = unit(0, 4).requires_grad_(), unit(1, 4).requires_grad_()
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    slow, slow_text = unit(2, 6).requires_grad_(), unit(3, 6)
    teacher = Teacher(slow, slow_text, torch.tensor([7, 8, 7, 9, 1, -1]), 0.4)

    def loss(*tensors: "torch.Tensor") -> "torch.Tensor":
        return contrastive_loss(tensors[0], tensors[1], CAPTIONS, tensors[2])

    def taught(*tensors: "torch.Tensor") -> "torch.Tensor":
        return contrastive_loss(tensors[0], tensors[1], CAPTIONS, tensors[2], teacher)

    assert torch.autograd.gradcheck(loss, (image, text, temperature))
    still = Teacher(slow.detach(), slow_text, teacher.caption, 0)
    assert torch.autograd.gradcheck(
        lambda *t: contrastive_loss(t[0], t[1], CAPTIONS, t[2], still), (image, text, temperature)
    )
    taught(image, text, temperature).backward()
    assert all(torch.isfinite(t.grad).all() for t in (image, text, temperature))


def test_negatives_are_drawn_by_their_chances_and_never_with_an_equal_caption() -> None:
    similarity = torch.tensor([[3.0, 1, 5, 0], [0, 9, 1, 2], [4, 0, 1, 1], [2, 2, -30, 1]])
    draws = 4000
    chance = torch.Generator().manual_seed(0)

    seen = torch.zeros(2, 4, 4)
    for _ in range(draws):
        negatives = draw_negatives(similarity, CAPTIONS, chance)
        seen[0, torch.arange(4), negatives.text] += 1 / draws
        seen[1, torch.arange(4), negatives.image] += 1 / draws

    for frequencies, logits in zip(seen, (similarity, similarity.T), strict=True):
        for i, row in enumerate(logits.tolist()):
            all_of_it = softmax(row, [0, 1, 2, 3])
            own = CAPTIONS.tolist()[i]
            open_to = [j for j in range(4) if CAPTIONS.tolist()[j] != own]
            chances = {j: all_of_it[j] + EVEN_CHANCE for j in open_to}
            expected = [chances.get(j, 0) / sum(chances.values()) for j in range(4)]
            assert frequencies[i].tolist() == pytest.approx(expected, abs=0.03)
    assert negatives.there.tolist() == [True] * 4


def test_where_all_captions_are_equal_no_negative_counts() -> None:
    equal = torch.tensor([5, 5, 5])
    own, other = torch.randn(3, 2), torch.full((3, 2), torch.inf)

    there = draw_negatives(torch.zeros(3, 3), equal).there

    assert there.tolist() == [False] * 3
    finite = torch.where(torch.isinf(other), torch.tensor(1e6), other)
    assert matching_loss(own, finite, finite, there) == matching_loss(own, own, own, there)
    assert torch.isfinite(contrastive_loss(unit(0, 3), unit(1, 3), equal, torch.tensor(0.07)))


def test_matching_is_that_of_a_plain_loop() -> None:
    own, image, text = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    there = torch.tensor([True, False, True, True])

    loss = matching_loss(own, image, text, there)

    terms = [-math.log(softmax(row, [0, 1])[1]) for row in own.tolist()]
    for rows in (image, text):
        terms += [
            -math.log(softmax(row, [0, 1])[0])
            for row, counts in zip(rows.tolist(), there.tolist(), strict=True)
            if counts
        ]
    assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_writing_is_that_of_a_plain_loop_and_pads_do_not_count() -> None:
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    ids, mask = (
        torch.tensor([[5, 2, 3, 1], [5, 4, 0, 0]]),
        torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    )

    loss = writing_loss(logits, ids, mask, smoothing=0.1)

    terms = []
    for row, place in ((0, 0), (0, 1), (0, 2), (1, 0)):
        chances = softmax(logits[row, place].tolist(), list(range(6)))
        told = int(ids[row, place + 1])
        target = [0.9 * (j == told) + 0.1 / 6 for j in range(6)]
        terms.append(-sum(target[j] * math.log(chances[j]) for j in range(6)))
    assert float(loss) == pytest.approx(sum(terms) / 4, rel=1e-5)
    changed = logits.clone()
    changed[1, 1:] = 1e4
    assert writing_loss(changed, ids, mask) == loss
