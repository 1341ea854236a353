"""BLIP's three losses: contrast (ITC), matching (ITM) with hard negatives, and writing (LM).

Source: Li et al., BLIP (arXiv:2201.12086), section 3.2; soft targets and queue as in its code and
in ALBEF (arXiv:2107.07651).  Unlike both, captions that are equal are never each other's negatives:
a web crawl has thousands of each.

Shapes: b pairs of a batch, d embedding width, n rows compared with (b, or b and a queue), t tokens,
v vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name

LABEL_SMOOTHING = 0.1
"""Of the writing loss; BLIP section 3.2."""
EVEN_CHANCE = 1e-4
"""Added to each similarity that hard negatives are drawn by, so that none is out of reach; BLIP."""
NEVER = -1e9
"""A logit that leaves no probability in float32, and no NaN where its target is 0."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What a momentum encoder says of a batch and of those before it."""

    image: torch.Tensor
    """Unit-length, float32, (n, d); the batch's own rows come first."""
    text: torch.Tensor
    """The same."""
    caption: torch.Tensor
    """Int64, (n); two captions are equal where these are, -1 is none."""
    alpha: float
    """How far targets are the teacher's similarities and not the pairs, from 0 to 1."""


def contrastive_loss(
    image: torch.Tensor,
    text: torch.Tensor,
    caption: torch.Tensor,
    temperature: torch.Tensor,
    teacher: Teacher | None = None,
) -> torch.Tensor:
    """Pull each image towards its caption and away from the captions of others, and the reverse.

    Args:
        image: Unit-length, float32, (b, d).
        text: Unit-length, float32, (b, d); row i is image i's caption.
        caption: Int64, (b); captions are equal where these are, and then no negatives.
        temperature: Similarities are divided by it; above 0.
        teacher: Gives more negatives, and soft targets; None: the batch alone, its pairs as
            targets.

    Returns:
        Mean over the batch and both directions of the cross-entropy in nats; scalar.
    """
    images, texts, captions = image, text, caption
    if teacher:
        images, texts, captions = teacher.image, teacher.text, teacher.caption
    apart = _rivals(caption, captions)
    losses = []
    for ours, theirs, teachers in ((image, texts, images), (text, images, texts)):
        logits = (ours @ theirs.T / temperature).masked_fill(~apart, NEVER)
        target = torch.eye(*logits.shape, device=logits.device)
        if teacher:
            with torch.no_grad():
                similar = teachers[: len(ours)] @ theirs.T / temperature
                soft = similar.masked_fill(~apart, NEVER).softmax(1)
                target = teacher.alpha * soft + (1 - teacher.alpha) * target
        losses.append(-(logits.log_softmax(1) * target).sum(1).mean())
    return (losses[0] + losses[1]) / 2


def _rivals(captions: torch.Tensor, offered: torch.Tensor) -> torch.Tensor:
    """Say which of those offered is a pair's own or has another caption: (b, n), bool."""
    apart = (captions[:, None] != offered) & (offered != -1)
    return apart | torch.eye(*apart.shape, dtype=torch.bool, device=apart.device)


@dataclass(frozen=True, slots=True)
class Negatives:
    """For each pair of a batch, another pair's caption and another pair's image."""

    text: torch.Tensor
    """Int64, (b); the caption that image i is wrongly given."""
    image: torch.Tensor
    """Int64, (b); the image that caption i is wrongly given."""
    there: torch.Tensor
    """Bool, (b); False where no caption of the batch differs: its negatives are none."""


def draw_negatives(
    similarity: torch.Tensor, caption: torch.Tensor, generator: torch.Generator | None = None
) -> Negatives:
    """Draw hard negatives: the more alike, the more often, but never with an equal caption.

    All rows are drawn at once, and nothing is read back from the device.

    Args:
        similarity: Of image i to caption j, divided by the temperature, (b, b).
        caption: Int64, (b); captions are equal where these are.
        generator: Where chance comes from; None: torch's own.

    Source: BLIP section 3.2 and its code: chances are the softmax of similarities, and
    `EVEN_CHANCE`.
    """
    other = caption[:, None] != caption

    def draw(logits: torch.Tensor) -> torch.Tensor:
        chances = (logits.detach().float().softmax(1) + EVEN_CHANCE) * other
        # The largest of chance / Exp(1) is a draw by chance: multinomial, without its check of sums
        race = torch.empty_like(chances).exponential_(generator=generator)
        race.clamp_(min=torch.finfo(race.dtype).tiny)
        return (chances / race).argmax(1)

    return Negatives(draw(similarity), draw(similarity.T), other.any(1))


def matching_loss(
    own: torch.Tensor, image: torch.Tensor, text: torch.Tensor, there: torch.Tensor
) -> torch.Tensor:
    """Tell matched pairs from hard negatives.

    Args:
        own: Logits of the pairs themselves, (b, 2); column 1 is "matched".
        image: Logits of each image with its negative caption, (b, 2).
        text: Logits of each caption with its negative image, (b, 2).
        there: `Negatives.there`; where False, the two negatives do not count.

    Returns:
        Mean cross-entropy in nats over all that count, a third of which match; scalar.
    """
    logits = torch.cat([own, image, text])
    matched = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    matched[: len(own)] = 1
    weights = torch.cat([torch.ones_like(there), there, there]).float()
    return (F.cross_entropy(logits, matched, reduction="none") * weights).sum() / weights.sum()


def writing_loss(
    logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, smoothing: float = LABEL_SMOOTHING
) -> torch.Tensor:
    """Tell each token of a caption from those before it.

    Args:
        logits: Of the token after each, float32, (b, t, v).
        ids: Int64, (b, t); the first token is given and not told.
        mask: 1 at tokens and 0 at pads, which do not count, (b, t).
        smoothing: Share of a target that is spread over the whole vocabulary.

    Returns:
        Mean cross-entropy in nats over all tokens that count; scalar.
    """
    told = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    before = logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(before, told.flatten(), ignore_index=-100, label_smoothing=smoothing)
