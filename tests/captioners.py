"""A captioner and a scorer that need no model."""

import hashlib
from collections.abc import Sequence

from recaption.captioner import Caption, Score


class Echo:
    """Writes captions that tell image and draw; fails where it is told to."""

    def __init__(
        self, candidates: int = 2, name: str = "echo", failing: Sequence[str] = ()
    ) -> None:
        self.spec = {"captioner": name, "candidates": candidates}
        self.failing = failing
        self.asked: list[str] = []
        self.dies_at = -1

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        self.asked += keys
        return [
            [self._one(image, key, draw) for draw in range(self.spec["candidates"])]
            for image, key in zip(images, keys, strict=True)
        ]

    def _one(self, image: bytes, key: str, draw: int) -> Caption:
        if key in self.failing:
            return Caption("", draw, failure="timeout")
        text = f"{self.spec['captioner']} {hashlib.sha256(image).hexdigest()[:6]} {draw}"
        return Caption(text, draw, -1.5 * draw, 4, "stop")


class Lengths:
    """Scores a text by its length, and counts the images that it has seen."""

    def __init__(self, name: str = "lengths") -> None:
        self.spec = {"scorer": name}
        self.seen: list[list[str]] = []

    def score(self, images: Sequence[bytes], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        assert len(images) == len(texts)
        self.seen += [list(some) for some in texts]
        return [[Score(len(t) / 100, len(t) / 200) for t in some] for some in texts]
