"""One stack of BERT's layers, with attention to images, as encoder and as decoder.

Encoder and decoder share all but self-attention: embeddings, attention to images and MLPs are the
same.  Source: Li et al., BLIP (arXiv:2201.12086), section 3.1; Devlin et al., BERT
(arXiv:1810.04805), post-norm.

Texts may outnumber images: text i is about image i // (texts / images).  The texts of one image ask
it together, as one longer query, so that no state of an image is ever copied.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from recaption.config import Part
from recaption.vision import INITIAL_STD, MLP_RATIO


@dataclass(slots=True)
class Cache:
    """Keys and values of the tokens so far: (layers, 2, texts, heads, max_tokens, head width)."""

    states: torch.Tensor
    length: int = 0
    _spare: torch.Tensor | None = None

    def reorder(self, texts: torch.Tensor) -> None:
        """Put `texts[i]`'s tokens in the place of text i."""
        spare = torch.empty_like(self.states) if self._spare is None else self._spare
        torch.index_select(self.states, 2, texts, out=spare)
        self.states, self._spare = spare, self.states

    def repeat(self, times: int) -> "Cache":
        """Return a cache that holds each text `times` times, one beside the other."""
        return Cache(self.states.repeat_interleave(times, 2), self.length)


class TextStack(nn.Module):
    """Turn ids (n, t) into states (n, t, width).

    Without `about_images` it has no weights for images, and texts are read alone.
    """

    def __init__(self, config: Any, *, about_images: bool = True) -> None:
        super().__init__()
        width = config.text_width
        self.heads = config.text_heads
        self.words = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Embedding(config.max_tokens, width)
        self.norm = nn.LayerNorm(width, config.text_epsilon)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config, about_images) for _ in range(config.text_layers))
        self.apply(initialise)

    def forward(
        self,
        ids: torch.Tensor,
        part: Part,
        mask: torch.Tensor | None = None,
        images: list[torch.Tensor] | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """Read texts.

        Args:
            ids: Token ids, (n, t).
            part: Whose self-attention to use; the decoder's tokens see none that come later.
            mask: True at tokens and False at padding, (n, t); None where nothing is padded.
            images: What `read_images` returned, for b images where n is a multiple of b; None
                leaves the attention to images out.
            cache: Tokens before these; these are added to it.

        Returns:
            States, (n, t, width).
        """
        before, length = cache.length if cache else 0, ids.shape[1]
        states = self.words(ids) + self.positions.weight[before : before + length]
        states = self.dropout(self.norm(states))
        seen = _seen(length, part, mask, ids.device)
        for index, layer in enumerate(self.layers):
            past = None if cache is None else cache.states[index, ..., : before + length, :]
            states = layer.attention[part](states, seen, past)
            if images is not None:
                states = layer.cross(states, images[index])
            states = layer.mlp(states)
        if cache:
            cache.length += length
        return states

    def read_images(self, states: torch.Tensor) -> list[torch.Tensor]:
        """Return each layer's keys and values of images, (2, b, heads, states, head width)."""
        return [layer.cross.read(states) for layer in self.layers]

    def new_cache(self, texts: int, max_tokens: int) -> Cache:
        """Return an empty cache, of the weights' device and type."""
        width = self.words.weight.shape[1] // self.heads
        shape = (len(self.layers), 2, texts, self.heads, max_tokens, width)
        return Cache(self.words.weight.new_zeros(shape))


class _Layer(nn.Module):
    def __init__(self, config: Any, about_images: bool) -> None:
        super().__init__()
        parts = {part: _SelfAttention(config) for part in config.parts}
        self.attention = nn.ModuleDict(parts)
        self.cross = _ImageAttention(config) if about_images else None
        self.mlp = _Mlp(config)


class _Residual(nn.Module):
    """What ends each block of BERT: a projection, the residual, and LayerNorm."""

    def __init__(self, config: Any, width_in: int) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, config.text_width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.text_width, config.text_epsilon)

    def forward(self, states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.norm(residual + self.dropout(self.project(states)))


class _SelfAttention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.heads, self.rate = config.text_heads, config.dropout
        self.qkv = nn.Linear(config.text_width, 3 * config.text_width)
        self.out = _Residual(config, config.text_width)

    def forward(
        self, states: torch.Tensor, seen: torch.Tensor | None, past: torch.Tensor | None
    ) -> torch.Tensor:
        count, length, width = states.shape
        fused = (
            self.qkv(states)
            .view(count, length, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        query, keys_values = fused[0], fused[1:]
        if past is not None:
            past[..., -length:, :] = keys_values
            keys_values = past
        key, value = keys_values.to(query.dtype)
        rate = self.rate if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, seen, rate)
        return self.out(attended.transpose(1, 2).reshape(count, length, width), states)


class _ImageAttention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.heads, self.rate = config.text_heads, config.dropout
        self.query = nn.Linear(config.text_width, config.text_width)
        self.key_value = nn.Linear(config.vision_width, 2 * config.text_width)
        self.out = _Residual(config, config.text_width)

    def read(self, states: torch.Tensor) -> torch.Tensor:
        count, length, _ = states.shape
        width = self.query.out_features // self.heads
        fused = self.key_value(states).view(count, length, 2, self.heads, width)
        return fused.permute(2, 0, 3, 1, 4).contiguous()

    def forward(self, states: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        _, count, heads, _, width = images.shape
        together = states.shape[0] * states.shape[1] // max(count, 1)
        query = self.query(states).view(count, together, heads, width).transpose(1, 2)
        key, value = images.to(query.dtype)
        rate = self.rate if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        return self.out(attended.transpose(1, 2).reshape(states.shape), states)


class _Mlp(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.widen = nn.Linear(config.text_width, MLP_RATIO * config.text_width)
        self.activate = nn.GELU()
        self.out = _Residual(config, MLP_RATIO * config.text_width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.out(self.activate(self.widen(states)), states)


def _seen(
    length: int, part: Part, mask: torch.Tensor | None, device: torch.device
) -> torch.Tensor | None:
    """Say which token sees which, (n or 1, 1, t or 1, t); None where each sees all.

    Tokens in a cache are seen by all; so no more than one may follow them.
    """
    seen = None if mask is None else mask.bool()[:, None, None, :]
    if part == "encoder" or length == 1:
        return seen
    before = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]
    return before if seen is None else before & seen


def initialise(module: nn.Module) -> None:
    """Give a linear layer, or an embedding, BERT's initial weights."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
