"""Score how unsafe images are, with any image classifier of `transformers`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from filters.recipe import Nsfw
from filters.rule import RecipeError
from recaption.extra import check_installed
from recaption.pictures import read_rgb

BATCH = 32
"""Images classified at once."""


@functools.cache
def scorer(nsfw: Nsfw) -> Callable[[Sequence[bytes]], list[float]]:
    """Load a recipe's classifier.

    Returns:
        A function from the bytes of decodable images to their scores: the probabilities, in
        [0, 1], of the recipe's labels, added up.

    Raises:
        RecipeError: The extra is not installed, the model cannot be loaded, or it lacks a label.
    """
    check_installed("nsfw.model")
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    try:
        processor: Any = AutoImageProcessor.from_pretrained(nsfw.model)
        model: Any = AutoModelForImageClassification.from_pretrained(nsfw.model).eval()
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"nsfw.model must be an image classifier of transformers, got {nsfw.model!r}: "
            f"{str(error).splitlines()[0]}; correct the path"
        ) from None
    places = _places(nsfw, model.config.id2label)

    def score(images: Sequence[bytes]) -> list[float]:
        pictures = [read_rgb(image) for image in images]
        with torch.inference_mode():
            logits = model(**processor(images=pictures, return_tensors="pt")).logits
        scores: list[float] = logits.float().softmax(-1)[:, places].sum(-1).tolist()
        return scores

    return score


def _places(nsfw: Nsfw, labels: dict[int, str]) -> list[int]:
    """Return which of the model's outputs are the unsafe ones."""
    places = {label.lower(): place for place, label in labels.items()}
    unknown = [label for label in nsfw.labels if label.lower() not in places]
    if unknown:
        raise RecipeError(
            f"nsfw.labels must be labels of {nsfw.model}, got {', '.join(unknown)}; it has "
            + ", ".join(labels.values())
        )
    return [places[label.lower()] for label in nsfw.labels]
