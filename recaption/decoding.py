"""Write captions: greedily, by beam search, or by nucleus sampling.

A step of the model costs one token: keys and values of what is written are kept, and those of an
image are made once and asked by all of its candidates.  Nothing waits for the device but, every
`CHECK_EVERY` tokens, the question which captions have ended; those make room.

Sampling is by inverse CDF, with numbers that depend on the seed, the sample's key, the draw and the
token's place only: a caption is the same whatever shares its batch.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.blip import Blip
from recaption.config import Decode
from recaption.text import Cache

CHECK_EVERY = 4
"""Tokens between two looks at which captions have ended; each look waits for the device."""

MAX_GOING_SHARE = 0.75
"""Where no more of the images are still being written, the others' room is given up."""

_NEVER = -1e9
_WORTHWHILE_LINES = 4
_LIKELIEST = (128, 1024)
"""Tokens that are sorted at first, on a CPU; all are where these are too few for the nucleus."""

_Choose = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
"""Choose tokens by logits, of a step, of those of all rows that are still written."""


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


def generate(
    model: Blip,
    states: torch.Tensor,
    keys: Sequence[str],
    decode: Decode,
    begin: Sequence[int],
    end: int,
) -> list[list[Written]]:
    """Write captions.

    Args:
        model: One with a decoder.
        states: Of the images, (b, 1 + patches, vision_width).
        keys: Of the samples, b of them.
        decode: How.
        begin: Ids that captions begin with: [DEC], and the prompt's.
        end: The id of [SEP].

    Returns:
        Of each image, `decode.candidates` captions; beam search's are sorted, the best first.

    Raises:
        RecipeError: Captions could be longer than what the model has positions for.
    """
    room = model.config.max_tokens - len(begin) + 1
    if decode.max_tokens > room:
        raise RecipeError(
            f"decode.max_tokens must be at most {room} after {len(begin)} tokens of prompt, got "
            f"{decode.max_tokens}; the model has {model.config.max_tokens} positions"
        )
    if not len(keys):
        return []
    with torch.inference_mode():
        if decode.strategy == "beam":
            return _search(model, states, decode, begin, end)
        choose: _Choose = _argmax
        if decode.strategy == "nucleus":
            drawn = uniforms(decode.seed, keys, decode.candidates, decode.max_tokens)
            choose = _Nucleus(decode, torch.from_numpy(drawn).to(states.device))
        return _walk(_Writer(model, states, decode, begin, end), choose)


def uniforms(seed: int, keys: Sequence[str], draws: int, steps: int) -> NDArray[np.float32]:
    """Return numbers in [0, 1), (keys x draws, steps), each by seed, key, draw and step alone."""
    rows = [
        hashlib.shake_128(f"{seed}\0{draw}\0{key}".encode()).digest(4 * steps)
        for key in keys
        for draw in range(draws)
    ]
    bits = np.frombuffer(b"".join(rows), "<u4").reshape(len(rows), steps)
    return (bits >> 9).astype(np.float32) * np.float32(
        2**-23
    )  # so a product stays below its factor


class _Writer:
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


def _walk(writer: _Writer, choose: _Choose) -> list[list[Written]]:
    """Write one token after the other; images whose captions have all ended make room."""
    copies = writer.decode.candidates
    ids, totals = writer.ids.clone(), torch.zeros(len(writer.ids), device=writer.device)
    rows = torch.arange(len(ids), device=writer.device)  # those that are being written
    total, done = totals.clone(), rows < 0
    for step in range(writer.decode.max_tokens):
        log_sums, raw = writer.log_sums(), writer.logits
        allowed = raw if writer.decode.repetition_penalty == 1.0 else raw.clone()
        writer.allow(allowed, step)
        token = choose(allowed, step, rows)
        gain = raw.gather(1, token[:, None])[:, 0] - log_sums
        total += gain.masked_fill(done, 0.0)
        writer.ids[:, writer.begun + step] = token.masked_fill(done, writer.end)
        done |= token == writer.end
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            going = (~done).view(-1, copies).any(1).nonzero()[:, 0]
            if len(going) * copies <= MAX_GOING_SHARE * len(rows):
                ids[rows], totals[rows] = writer.ids, total
                kept = writer.keep(going, copies)
                rows, total, done = rows[kept], total[kept], done[kept]
            if not len(going):
                break
        writer.advance(step)
    ids[rows], totals[rows] = writer.ids, total
    return _written(ids[:, writer.begun :], totals, writer.end, copies)


def _argmax(logits: torch.Tensor, _step: int, _rows: torch.Tensor) -> torch.Tensor:
    if logits.device.type == "cpu":  # where NumPy's takes a tenth of the time
        return torch.from_numpy(logits.numpy().argmax(-1))
    return logits.argmax(-1)


class _Nucleus:
    """Draw from the fewest tokens that together have `top_p` of the probability."""

    def __init__(self, decode: Decode, drawn: torch.Tensor) -> None:
        self.top_p, self.temperature, self.drawn = decode.top_p, decode.temperature, drawn

    def __call__(self, logits: torch.Tensor, step: int, rows: torch.Tensor) -> torch.Tensor:
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        likely, drawn = scaled.softmax(-1), self.drawn[rows, step]
        if likely.device.type != "cpu":  # where to ask whether a few tokens are enough is to wait
            return self._draw(likely.sort(-1, descending=True), drawn)
        chosen = torch.empty(len(likely), dtype=torch.int64)
        rows = torch.arange(len(likely))  # those whose token is not chosen yet
        for width in (*_LIKELIEST, likely.shape[1]):
            first = _topk(likely[rows], min(width, likely.shape[1]))
            enough = (first[0].sum(-1) >= self.top_p) | (width >= likely.shape[1])
            chosen[rows] = self._draw(first, drawn[rows])
            rows = rows[~enough]
            if not len(rows):
                break
        return chosen

    def _draw(self, ranked: tuple[torch.Tensor, torch.Tensor], drawn: torch.Tensor) -> torch.Tensor:
        """Draw from sorted probabilities and their ids, (rows, tokens), by numbers in [0, 1)."""
        likely, ids = ranked
        above = likely.cumsum(-1)
        kept = above - likely < self.top_p
        mass = above.masked_fill(~kept, 0.0).amax(-1)
        place = (above <= (drawn * mass)[:, None]).sum(-1)
        return ids.gather(1, place[:, None])[:, 0]


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


def _search(
    model: Blip, states: torch.Tensor, decode: Decode, begin: Sequence[int], end: int
) -> list[list[Written]]:
    """Search with beams, as `transformers` does with its default settings.

    Scores are means over a caption's tokens.  Of an image, the search ends when the best beam that
    goes on has a lower mean than the worst of as many found captions as there are beams.
    """
    writer, beams, count = _Writer(model, states, decode, begin, end), decode.beams, len(states)
    found = _Found(count, beams, writer.ids.shape[1], writer.device)
    sums = torch.full((count, beams), _NEVER, device=writer.device)
    sums[:, 0] = 0.0  # all beams are the same at first
    totals = torch.zeros_like(sums)
    going = torch.ones(count, 1, dtype=torch.bool, device=writer.device)
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
        judged = (ended & going).index_fill(1, first_row.new_tensor(range(beams, 2 * beams)), False)
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
    kept = decode.candidates
    ids = found.ids[:, :kept, writer.begun :].flatten(0, 1)
    return _written(ids, found.totals[:, :kept].flatten(), end, kept)


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
    each, token = (one.view(count, beams, -1) for one in _topk(scores, number_each))
    best, place = (each + sums[..., None]).flatten(1).topk(number)
    start = torch.arange(beams, device=sums.device)[:, None] * scores.shape[1]
    return best, (token + start).flatten(1).gather(1, place)


def _topk(scores: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest of each row and their places, sorted; `Tensor.topk`, faster on a CPU.

    The largest are in those columns of a table of the row whose maxima are largest.
    """
    lines = math.isqrt(scores.shape[1] // number)  # so that table and columns are as many
    if scores.device.type != "cpu" or lines < _WORTHWHILE_LINES:
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


def _take(rows: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return `rows[i, order[i, j], k]`, of (images, n, room)."""
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[-1]))


def _written(
    ids: torch.Tensor, totals: torch.Tensor, end: int, candidates: int
) -> list[list[Written]]:
    """Bring captions to the host."""
    found = []
    for row, total in zip(ids.tolist(), totals.tolist(), strict=True):
        tokens = row[: row.index(end)] if end in row else row
        finish = "stop" if len(tokens) < len(row) else "length"
        found.append(Written(tokens, total, finish))
    return [found[at : at + candidates] for at in range(0, len(found), candidates)]
