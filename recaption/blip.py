"""BLIP's mixture of encoder and decoder, from a few thousand parameters to BLIP-large.

One vision transformer, and one text stack in three roles: it encodes a text alone (image-text
contrast, ITC), a text about an image (image-text matching, ITM), and it writes a text about an
image (language modelling, LM).  Source: Li et al., BLIP (arXiv:2201.12086), section 3.1.

Autocast may run it in bfloat16: what is compared or normalised (projections, lengths, logits) is
float32 all the same.
"""

import torch
from torch import nn
from torch.nn import functional

from recaption.config import BlipConfig
from recaption.text import TextStack, initialise
from recaption.vision import VisionTransformer

__all__ = ["Blip", "BlipConfig"]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5
"""Bounds of the contrastive temperature: salesforce/BLIP, blip_pretrain.py."""
INITIAL_TEMPERATURE = 0.07


class Blip(nn.Module):
    """The model.  Texts are padded on the right, and masks are true at tokens.

    Where there are more texts than images, text i is about image i // (texts / images), and the
    image is looked at once: `logits` and `match` take n texts about b images, n a multiple of b.
    """

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTransformer(config)
        self.text = TextStack(config)
        if config.encoder:
            self.image_projection = nn.Linear(config.vision_width, config.embed_width)
            self.text_projection = nn.Linear(config.text_width, config.embed_width)
            self.match_head = nn.Linear(config.text_width, 2)
            self.temperature = nn.Parameter(torch.tensor(INITIAL_TEMPERATURE))
            for head in (self.image_projection, self.text_projection, self.match_head):
                initialise(head)
        if config.decoder:
            self.word_head = _WordHead(config)
        self.packed_words: nn.Module | None = None
        """The last layer as `recaption.packing` lays it out."""

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the states of images, (b, 1 + patches, vision_width); the first is the image's.

        Args:
            pixels: Normalised pixels, (b, 3, image_px, image_px).
        """
        return self.vision(pixels)

    def project_image(self, states: torch.Tensor) -> torch.Tensor:
        """Return vectors of length 1, (b, embed_width), float32, of images by their states."""
        return functional.normalize(_linear_float32(self.image_projection, states[:, 0]), dim=-1)

    def encode_text(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return vectors of length 1, (n, embed_width), float32, of texts that begin with [CLS]."""
        first = self.text(ids, "encoder", mask)[:, 0]
        return functional.normalize(_linear_float32(self.text_projection, first), dim=-1)

    def match(self, ids: torch.Tensor, mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Judge whether texts that begin with [ENC] describe their images.

        Returns:
            Logits, (n, 2), float32; the second is that of a match.
        """
        first = self.text(ids, "encoder", mask, self.text.read_images(states))[:, 0]
        return _linear_float32(self.match_head, first)

    def logits(self, ids: torch.Tensor, mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return the logits, (n, t, vocabulary), float32, of the token after each of a text's.

        Texts begin with [DEC].
        """
        written = self.text(ids, "decoder", mask, self.text.read_images(states))
        return self.word_logits(written)

    def word_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Turn states of the decoder into logits of the next token, float32."""
        states = self.word_head(states)
        if self.packed_words is not None:
            return self.packed_words(states)
        return functional.linear(states, self.text.words.weight, self.word_head.bias).float()

    def clamp_temperature(self) -> None:
        """Bring the contrastive temperature back into its bounds; to be called before each step."""
        with torch.no_grad():
            self.temperature.clamp_(MIN_TEMPERATURE, MAX_TEMPERATURE)


class _WordHead(nn.Module):
    """What BERT has before its word embeddings, which are also the decoder's last layer."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        self.project = nn.Linear(config.text_width, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, config.text_epsilon)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        initialise(self.project)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.norm(functional.gelu(self.project(states)))


def _linear_float32(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    with torch.autocast(states.device.type, enabled=False):
        return functional.linear(states.float(), layer.weight.float(), layer.bias.float())
