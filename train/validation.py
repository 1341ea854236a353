"""What a model makes of held-out pairs while it learns: its loss, and retrieval among them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed

from filters.rule import RecipeError
from recaption.wordpiece import Tokenizer
from train.augment import chances
from train.contrastive import contrastive_loss
from train.distributed import World
from train.dual_encoder import DualEncoder
from train.evaluation.ranks import found_within
from train.images import BadSampleError, Pixels, read_image
from train.index import Data
from train.readers import UnitReader
from train.samples import Samples
from train.settings import Settings

BATCH = 64
"""Pairs at once."""


class Validation:
    """Held-out pairs, in memory; each process has its share of them."""

    def __init__(self, settings: Settings, data: Data, tokenizer: Tokenizer, world: World) -> None:
        """Read some of the held-out pairs, evenly over all of them.

        Raises:
            RecipeError: There are fewer than two.
        """
        pairs = list(read_pairs(settings, data))
        pairs = pairs[: len(pairs) // world.ranks * world.ranks][world.rank :: world.ranks]
        if len(pairs) * world.ranks < 2:
            raise RecipeError(
                "validation.held_out_share must leave two pairs or more that can be read, got "
                f"{len(pairs)} of {data.num_samples:,}; raise it, or set it to 0"
            )
        samples = Samples(data, settings.loader.images, tokenizer, settings.model.image_px, 0)
        ids, mask, numbers = samples.tokenise([text for _, text in pairs])
        self._world = world
        self._images = torch.from_numpy(np.stack([pixels for pixels, _ in pairs]))
        self._tokens, self._mask = torch.from_numpy(ids), torch.from_numpy(mask).bool()
        self._texts = torch.tensor(numbers, device=world.device)

    def __call__(self, model: DualEncoder) -> dict[str, float]:
        """Measure a model, all of whose processes must ask.

        Returns:
            `loss`: the contrastive loss of all pairs, without label smoothing, where equal captions
            are no negatives of each other; `image_retrieval_recall@1`: how often the nearest image
            of a caption is one that has it; `text_retrieval_recall@1`: how often the nearest
            caption of an image is its own.
        """
        model.eval()
        with torch.no_grad():
            images, texts = self._embed(model)
            loss = contrastive_loss(
                images, texts, model.log_scale, smoothing=0.0, groups=self._texts
            )
        images, texts, numbers = (self._gathered(one) for one in (images, texts, self._texts))
        same = (numbers[:, None] == numbers).cpu().numpy()
        image, text = images.cpu().numpy(), texts.cpu().numpy()
        found = {
            "image": found_within(text, image, lambda rows: same[rows], (1,)),
            "text": found_within(image, text, lambda rows: same[rows], (1,)),
        }
        recalls = {f"{way}_retrieval_recall@1": float(at.mean()) for way, at in found.items()}
        return {"loss": float(loss)} | recalls

    def _embed(self, model: DualEncoder) -> tuple[torch.Tensor, torch.Tensor]:
        device = self._world.device
        parts = [
            (model.encode_image(images), model.encode_text(tokens, mask))
            for images, tokens, mask in zip(
                *(one.to(device).split(BATCH) for one in (self._images, self._tokens, self._mask)),
                strict=True,
            )
        ]
        images, texts = zip(*parts, strict=True)
        return torch.cat(images), torch.cat(texts)

    def _gathered(self, rows: torch.Tensor) -> torch.Tensor:
        if self._world.ranks == 1:
            return rows
        every = [torch.empty_like(rows) for _ in range(self._world.ranks)]
        distributed.all_gather(every, rows.contiguous())
        return torch.cat(every)


def read_pairs(settings: Settings, data: Data) -> Iterator[tuple[Pixels, str]]:
    """Yield images as evaluation sees them, and a caption of each; what cannot be read is left."""
    wanted = np.linspace(0, data.num_samples, settings.validation.pairs, endpoint=False)
    places = np.unique(wanted.astype(np.int64))
    ends = np.cumsum(data.rows)
    for number, unit in enumerate(data.units):
        reader, first = UnitReader(unit, few=True), int(ends[number]) - unit.rows
        for row in places[(places >= first) & (places < ends[number])] - first:
            try:
                key, image, texts = reader.read(int(row))
                pixels = read_image(image, settings.loader.images, settings.model.image_px)
            except BadSampleError:
                continue
            yield pixels, data.captions.draw(texts, chances(settings.seed, 0, key).caption)
        reader.close()
