"""Write captions: greedily, by beam search, or by nucleus sampling.

A step of the model costs one token: keys and values of what is written are kept, and those of an
image are made once and asked by all of its candidates.  Nothing waits for the device but, every
`CHECK_EVERY` tokens, the question which captions have ended; those make room.

Sampling is by inverse CDF, with numbers that depend on the seed, the sample's key, the draw and the
token's place only: a caption is the same whatever shares its batch.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.beams import search
from recaption.blip import Blip
from recaption.config import Decode
from recaption.writing import CHECK_EVERY, HOST, Writer, Written, gather, largest

__all__ = ["Written", "generate", "uniforms"]

MAX_GOING_SHARE = 0.75
"""Where no more of the images are still being written, the others' room is given up."""

_LIKELIEST = (128, 1024)
"""Tokens that are sorted at first, on a CPU; all are where these are too few for the nucleus."""

_Choose = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
"""Choose tokens by logits, of a step, of those of all rows that are still written."""


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
        writer = Writer(model, states, decode, begin, end)
        if decode.strategy == "beam":
            return search(writer)
        choose: _Choose = _argmax
        if decode.strategy == "nucleus":
            drawn = uniforms(decode.seed, keys, decode.candidates, decode.max_tokens)
            choose = Nucleus(decode, torch.from_numpy(drawn).to(states.device))
        return _walk(writer, choose)


def uniforms(seed: int, keys: Sequence[str], draws: int, steps: int) -> NDArray[np.float32]:
    """Return numbers in [0, 1), (keys x draws, steps), each by seed, key, draw and step alone."""
    rows = [
        hashlib.shake_128(f"{seed}\0{draw}\0{key}".encode()).digest(4 * steps)
        for key in keys
        for draw in range(draws)
    ]
    bits = np.frombuffer(b"".join(rows), "<u4").reshape(len(rows), steps)
    # 23 bits, so that a number times a mass stays below the mass, rounded too
    return (bits >> 9).astype(np.float32) * np.float32(2**-23)


def _walk(writer: Writer, choose: _Choose) -> list[list[Written]]:
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
    return gather(ids[:, writer.begun :], totals, writer.end, copies)


def _argmax(logits: torch.Tensor, _step: int, _rows: torch.Tensor) -> torch.Tensor:
    if logits.device.type == HOST:  # where NumPy's takes a tenth of the time
        return torch.from_numpy(logits.numpy().argmax(-1))
    return logits.argmax(-1)


class Nucleus:
    """Draw from the fewest tokens that together have `top_p` of the probability."""

    def __init__(self, decode: Decode, drawn: torch.Tensor) -> None:
        self.top_p, self.temperature, self.drawn = decode.top_p, decode.temperature, drawn

    def __call__(
        self, logits: torch.Tensor, step: int, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Choose a token by each row of logits; `rows` says of which captions, if not of all."""
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        drawn = self.drawn[:, step] if rows is None else self.drawn[rows, step]
        likely = scaled.softmax(-1)
        if likely.device.type != HOST:  # where to ask whether a few tokens are enough is to wait
            return self._draw(likely.sort(-1, descending=True), drawn)
        chosen = torch.empty(len(likely), dtype=torch.int64)
        open_rows = torch.arange(len(likely))
        widths = iter((*_LIKELIEST, likely.shape[1]))
        while len(open_rows):
            width = min(next(widths), likely.shape[1])
            first = largest(likely[open_rows], width)
            chosen[open_rows] = self._draw(first, drawn[open_rows])
            wide = (first[0].sum(-1) < self.top_p) & (width < likely.shape[1])
            open_rows = open_rows[wide]
        return chosen

    def _draw(self, ranked: tuple[torch.Tensor, torch.Tensor], drawn: torch.Tensor) -> torch.Tensor:
        """Draw from sorted probabilities and their ids, (rows, tokens), by numbers in [0, 1)."""
        likely, ids = ranked
        above = likely.cumsum(-1)
        kept = above - likely < self.top_p
        mass = above.masked_fill(~kept, 0.0).amax(-1)
        place = (above <= (drawn * mass)[:, None]).sum(-1)
        return ids.gather(1, place[:, None])[:, 0]
