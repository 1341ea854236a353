"""What the simulation is made of: the paper's numbers, and ours where the paper is silent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from filters.parsing import Bound, build, check_bounds, read_table

UNITS = ("relu", "shifted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The numbers of one experiment.

    Source: Sun et al., NeurIPS 2025, section 5.1, where a field does not say otherwise.
    """

    num_inputs: int = 2500
    """d1: the length of an image or a text."""
    num_features: int = 50
    """d: the size of a dictionary."""
    num_neurons: int = 80
    """m: of each tower."""
    num_raw: int = 5000
    """|S_w|: pairs whose texts may be misaligned."""
    num_clean: int = 1000
    """|S_h|: pairs that are aligned."""
    num_test: int = 1000
    """Images to classify; ours."""
    rate: float = 0.1
    """How often a feature is present in training."""
    test_rate: float = 0.2
    """How often a feature is present in tests."""
    spurious: tuple[float, ...] = tuple(i / 20 for i in range(11))
    """C_s: how often a raw text names a wrong feature in place of a present one."""
    num_partners: int = 3
    """The wrong features that may stand for one; the paper says "several".  Swept."""
    batch: int = 500
    learning_rate: float = 0.001
    temperature: float = 100.0
    """Ours: 2 * batch * rate, at which a neuron that has learnt gives products of size 1.  It only
    rescales the weights (see `training`), so the initial deviation is the one thing to sweep."""
    initial_deviation: float = 0.0028
    """Of the first weights: the theory's 1 / sqrt(d1 * poly(d)) with poly(d) = d.  Swept."""
    unit: str = "relu"
    """Or the symmetric shifted unit of the paper's proofs, with its scheduled bias.  Swept."""
    steps: int = 320
    """Of which the best is read, by a rule that sees neither arm; see `trial`."""
    measured_every: int = 20
    """In steps."""
    caption_steps: int = 200
    """Of the captioner: theorem 4.3's d log d.  Swept."""

    def __post_init__(self) -> None:
        check_bounds(self, "", self._bounds())

    def _bounds(self) -> list[Bound]:
        counts = ("num_neurons", "num_raw", "steps", "measured_every", "caption_steps")
        shares = ("rate", "test_rate")
        sizes = ("learning_rate", "temperature", "initial_deviation")
        features, most = self.num_features, self.num_features - 1
        return [
            ("num_features", features >= 20 and features % 5 == 0, "a multiple of 5, 20 or more"),
            ("num_inputs", self.num_inputs >= features, f"at least num_features, {features}"),
            *((name, getattr(self, name) >= 1, "1 or more") for name in counts),
            ("num_test", self.num_test >= 20, "20 or more"),
            *((name, 0.05 <= getattr(self, name) <= 0.5, "from 0.05 to 0.5") for name in shares),
            *((name, getattr(self, name) > 0, "above 0") for name in sizes),
            ("spurious", _is_grid(self.spurious), "growing shares from 0 to below 1, the first 0"),
            ("num_partners", 1 <= self.num_partners <= most, f"from 1 to {most}"),
            ("batch", 2 <= self.batch <= self.num_clean, f"from 2 to num_clean, {self.num_clean}"),
            ("measured_every", self.measured_every <= self.steps, f"at most steps, {self.steps}"),
            ("unit", self.unit in UNITS, " or ".join(UNITS)),
        ]

    @property
    def noise_deviation(self) -> float:
        """Of each number of an image or a text: its variance is 1 / d."""
        return 1 / math.sqrt(self.num_features)


def _is_grid(shares: Sequence[float]) -> bool:
    growing = all(low < high for low, high in pairwise(shares))
    return growing and shares[:1] == (0.0,) and max(shares) < 1


def read_setting(changes: Sequence[str]) -> Setting:
    """Return the setting with some values changed, each said as `KEY=VALUE`.

    Raises:
        RecipeError: A key is unknown, or a value is of the wrong type or out of bounds.
    """
    where = "simulate"
    setting: Setting = build(Setting, read_table("", where, tuple(changes)), "", where)
    return setting
