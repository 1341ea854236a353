"""What was found in a shard."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Checkup:
    """What was found in a shard."""

    shard: str
    samples: int = 0
    pairs: int = 0
    """Samples with an image and a caption, which is all that open_clip asks for."""
    looked_at: int = 0
    found: dict[str, tuple[int, str]] = field(default_factory=dict)
    """How often each ailment was found, with an example."""
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    """Digests of the keys, each once, sorted."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Samples by the extension of their image."""
    others: Counter[str] = field(default_factory=Counter)
    """Samples by what members they have beside the image."""

    def add(self, ailment: str, example: str = "", count: int = 1) -> None:
        """Count an ailment; the first example stays."""
        before, first = self.found.get(ailment, (0, example))
        self.found[ailment] = (before + count, first)
