"""Loaders of small data, and what they give."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from tests.train.corpora import PX, settings, tokenizer
from train.batch import Batch
from train.index import Data
from train.loader import Loader


def loader(data: Data, **changes: Any) -> Loader:
    told = {"px": PX, "batch": 4, "seed": 3, "rank": 0, "ranks": 1} | changes
    chosen = told.pop("settings", settings())
    return Loader(data, chosen, tokenizer(), **told)


def taken(of: Loader, count: int) -> list[Batch]:
    batches = iter(of)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()  # type: ignore[attr-defined]


def assert_same(some: Sequence[Batch], others: Sequence[Batch]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys == other.keys
        for name in ("images", "tokens", "mask", "texts"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
