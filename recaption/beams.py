"""Search captions with beams, as `transformers` does with its default settings."""

import torch

from recaption.writing import CHECK_EVERY, Writer, Written, gather, largest

_NEVER = -1e9


def search(writer: Writer) -> list[list[Written]]:
    """Search captions.

    Scores are means over a caption's tokens.  Of an image, the search ends when the best beam that
    goes on has a lower mean than the worst of as many found captions as there are beams.
    """
    decode, end, beams = writer.decode, writer.end, writer.decode.beams
    count = len(writer.ids) // beams
    found = _Found(count, beams, writer.ids.shape[1], writer.device)
    sums = torch.full((count, beams), _NEVER, device=writer.device)
    sums[:, 0] = 0.0  # all beams are the same at first
    totals = torch.zeros_like(sums)
    going = torch.ones(count, 1, dtype=torch.bool, device=writer.device)
    may_end = torch.arange(2 * beams, device=writer.device) < beams
    first_row = torch.arange(count, device=writer.device)[:, None] * beams
    for step in range(decode.max_tokens):
        ahead = writer.logits.sub_(writer.log_sums()[:, None])
        likely = ahead if decode.repetition_penalty == 1.0 else ahead.clone()
        writer.allow(ahead, step)
        best, place = _best(ahead, sums, 2 * beams)  # so that as many beams go on if all end
        beam, token = place // ahead.shape[1], place % ahead.shape[1]
        gain = likely.view(count, -1).gather(1, place)
        ids = _take(writer.ids.view(count, beams, -1), beam)
        ids[..., writer.begun + step] = token
        ended = (token == end) | (step + 1 == decode.max_tokens)
        judged = ended & going & may_end
        reached = totals.gather(1, beam) + gain
        found.add((best / (step + 1)).masked_fill(~judged, _NEVER), reached, ids)
        sums, order = (best + ended * _NEVER).topk(beams)
        totals = reached.gather(1, order)
        writer.ids = _take(ids, order).flatten(0, 1)
        writer.cache.reorder((beam.gather(1, order) + first_row).flatten())
        going &= sums[:, :1] / (step + 1) > found.scores.amin(1, keepdim=True)
        if step % CHECK_EVERY == CHECK_EVERY - 1 and not going.any():
            break
        writer.advance(step)
    return found.best(writer)


class _Found:
    """The best captions that ended, as many as beams, for each image."""

    def __init__(self, images: int, beams: int, room: int, device: torch.device) -> None:
        self.scores = torch.full((images, beams), _NEVER, device=device)
        """Mean logarithm of probability of a token, penalties included."""
        self.totals = torch.zeros(images, beams, device=device)
        self.ids = torch.zeros(images, beams, room, dtype=torch.int64, device=device)

    def add(self, scores: torch.Tensor, totals: torch.Tensor, ids: torch.Tensor) -> None:
        """Keep the best of those found and those given, which are (images, n) and (.., room)."""
        scores = torch.cat((self.scores, scores), 1)
        self.scores, order = scores.topk(self.scores.shape[1])
        self.totals = torch.cat((self.totals, totals), 1).gather(1, order)
        self.ids = _take(torch.cat((self.ids, ids), 1), order)

    def best(self, writer: Writer) -> list[list[Written]]:
        """Return as many as the settings want."""
        number = writer.decode.candidates
        ids = self.ids[:, :number, writer.begun :].flatten(0, 1)
        return gather(ids, self.totals[:, :number].flatten(), writer.end, number)


def _best(
    scores: torch.Tensor, sums: torch.Tensor, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best continuations of all beams of an image, and their places among all.

    Args:
        scores: Of tokens, (images x beams, vocabulary).
        sums: Of the beams so far, (images, beams).
        number: How many to return.
    """
    count, beams = sums.shape
    number_each = min(number, scores.shape[1])
    each, token = (one.view(count, beams, -1) for one in largest(scores, number_each))
    best, place = (each + sums[..., None]).flatten(1).topk(number)
    start = torch.arange(beams, device=sums.device)[:, None] * scores.shape[1]
    return best, (token + start).flatten(1).gather(1, place)


def _take(rows: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return `rows[i, order[i, j], k]`, of (images, n, room)."""
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[-1]))
