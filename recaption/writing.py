"""What all ways of writing share: captions in the making, and what becomes of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from recaption.blip import Blip
from recaption.config import Decode
from recaption.text import Cache

HOST = "cpu"
"""The device that need not be waited for."""
CHECK_EVERY = 4
"""Tokens between two looks at which captions have ended; each look waits for the device."""

_WORTHWHILE_LINES = 4


@dataclass(frozen=True, slots=True)
class Written:
    """A caption."""

    tokens: list[int]
    """Without prompt and specials."""
    logprob: float
    """Sum of the natural logarithms of what the model thought each was likely, [SEP] included.

    Neither temperature nor nucleus nor penalty counts, so that it can be compared.
    """
    finish: str
    """`stop`, or `length` where there was no room for [SEP]."""


class Writer:
    """Captions in the making: `copies` rows for each image, one beside the other."""

    def __init__(
        self, model: Blip, states: torch.Tensor, decode: Decode, begin: Sequence[int], end: int
    ) -> None:
        self.model, self.decode, self.end = model, decode, end
        self.images = model.text.read_images(states)
        self.begun, self.device = len(begin), states.device
        copies = decode.beams if decode.strategy == "beam" else decode.candidates
        ids = torch.tensor(begin, device=states.device).expand(len(states), -1)
        cache = model.text.new_cache(len(states), len(begin) + decode.max_tokens)
        logits = self._read(ids, cache)
        self.cache = cache if copies == 1 else cache.repeat(copies)
        self.logits = logits.repeat_interleave(copies, 0)
        """Of the next token, (rows, vocabulary); to be changed in place."""
        self._likely = torch.empty_like(self.logits)
        rows, room = len(states) * copies, len(begin) + decode.max_tokens
        self.ids = torch.full((rows, room), end, device=states.device)
        self.ids[:, : self.begun] = ids[:1]

    def log_sums(self) -> torch.Tensor:
        """Return the logarithm of the sum of the exponentials of each row's logits.

        That is `logits.logsumexp(-1)` in half the time, as memory that is new costs most of it.
        """
        torch.softmax(self.logits, -1, out=self._likely)
        return self.logits.amax(-1) - self._likely.amax(-1).log()

    def allow(self, scores: torch.Tensor, step: int) -> None:
        """Make of logits, or of their logarithmic softmax, what the settings want; in place."""
        if self.decode.repetition_penalty != 1.0:
            seen = self.ids[:, : self.begun + step]
            old, penalty = scores.gather(1, seen), self.decode.repetition_penalty
            scores.scatter_(1, seen, torch.where(old < 0, old * penalty, old / penalty))
        if step < self.decode.min_tokens:
            scores[:, self.end] = -torch.inf

    def keep(self, images: torch.Tensor, copies: int) -> torch.Tensor:
        """Go on with some images only, and return which rows those are."""
        rows = (images[:, None] * copies + torch.arange(copies, device=self.device)).flatten()
        self.images = [one.index_select(1, images) for one in self.images]
        self.cache = Cache(self.cache.states.index_select(2, rows), self.cache.length)
        self.ids, self._likely = self.ids[rows], self._likely[: len(rows)]
        return rows

    def advance(self, step: int) -> None:
        """Read the token that was written at a step."""
        if step + 1 < self.decode.max_tokens:
            at = self.begun + step
            self.logits = self._read(self.ids[:, at : at + 1], self.cache)

    def _read(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        states = self.model.text(ids, "decoder", None, self.images, cache)
        return self.model.word_logits(states[:, -1])


def gather(
    ids: torch.Tensor, totals: torch.Tensor, end: int, candidates: int
) -> list[list[Written]]:
    """Bring captions to the host."""
    found = []
    for row, total in zip(ids.tolist(), totals.tolist(), strict=True):
        tokens = row[: row.index(end)] if end in row else row
        finish = "stop" if len(tokens) < len(row) else "length"
        found.append(Written(tokens, total, finish))
    return [found[at : at + candidates] for at in range(0, len(found), candidates)]


def largest(scores: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest of each row and their places, sorted; `Tensor.topk`, faster on a CPU.

    The largest are in those columns of a table of the row whose maxima are largest.
    """
    lines = math.isqrt(scores.shape[1] // number)  # so that table and columns are as many
    if scores.device.type != HOST or lines < _WORTHWHILE_LINES:
        best = scores.topk(number)
        return best.values, best.indices
    columns = scores.shape[1] // lines
    table = scores[:, : lines * columns]
    highest = table.view(len(scores), lines, columns).amax(1).topk(number).indices
    line = torch.arange(0, lines * columns, columns)[:, None]
    rest = torch.arange(lines * columns, scores.shape[1]).expand(len(scores), -1)
    places = torch.cat(((highest[:, None] + line).flatten(1), rest), 1)
    best = scores.gather(1, places).topk(number)
    return best.values, places.gather(1, best.indices)
