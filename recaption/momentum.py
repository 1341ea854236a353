"""A slow copy of a model that teaches it contrast, and a queue of what it saw before.

Source: He et al., MoCo (arXiv:1911.05722); Li et al., ALBEF (arXiv:2107.07651), section 3.2, and
BLIP (arXiv:2201.12086), which uses it as it is.
"""

import copy

import torch
from torch import nn

from recaption.blip import Blip
from recaption.losses import Teacher


class Momentum(nn.Module):
    """The copy, and a ring of the last `queue` pairs; its state_dict holds both."""

    def __init__(self, model: Blip, queue: int, momentum: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.momentum = momentum
        width = model.config.embed_width
        self.register_buffer("image", torch.zeros(queue, width))
        self.register_buffer("text", torch.zeros(queue, width))
        self.register_buffer("caption", torch.full((queue,), -1))
        self.register_buffer("place", torch.tensor(0))
        self.to(model.temperature.device)

    def follow(self, model: Blip) -> None:
        """Move the copy's weights towards the model's."""
        with torch.no_grad():
            for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
                ours.lerp_(theirs, 1 - self.momentum)

    def teach(
        self,
        pixels: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        caption: torch.Tensor,
        alpha: float,
    ) -> Teacher:
        """Judge a batch, and put it into the queue for those that follow.

        Args:
            pixels: Images, (b, 3, px, px).
            ids: Captions that begin with [CLS], (b, t).
            mask: 1 at tokens, (b, t).
            caption: Int64, (b), not -1; captions are equal where these are.
            alpha: `Teacher.alpha`.
        """
        with torch.no_grad():
            image = self.model.project_image(self.model.encode_image(pixels))
            text = self.model.encode_text(ids, mask)
        teacher = Teacher(
            torch.cat([image, self.image]),
            torch.cat([text, self.text]),
            torch.cat([caption, self.caption]),
            alpha,
        )
        queue = len(self.caption)
        places = (
            self.place + torch.arange(min(len(caption), queue), device=caption.device)
        ) % queue
        self.image[places], self.text[places] = image[:queue].float(), text[:queue].float()
        self.caption[places] = caption[:queue]
        self.place += len(places)
        return teacher
