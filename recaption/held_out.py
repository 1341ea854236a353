"""Choose the samples that nothing is learnt from, so that a model can be judged on them."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def are_held_out(keys: Iterable[str], share: float) -> NDArray[np.bool_]:
    """Say which samples are held out: a share of them in [0, 1], which each key alone decides."""
    return np.array([_chance(key) < share for key in keys], bool)


def _chance(key: str) -> float:
    """Return a number in [0, 1) that a key alone decides."""
    digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8]) / 2**64
