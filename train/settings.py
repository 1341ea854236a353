"""Recipes of training: every number of it, read from TOML and checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from filters.parsing import build, check_bounds
from recaption.learning import Vocabulary as LearntVocabulary
from recaption.settings import read_model_table
from train.config import ModelConfig, OptimizerConfig
from train.distribution import WAYS
from train.loader import LoaderSettings
from train.mixing import Captions

WORDS = ("captions", "tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary(LearntVocabulary):
    """Section [vocabulary]: which tokens captions are cut into.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    words: str = "captions"
    """What it is learnt from, where no `path` is named.

    `captions`: those of the pairs to learn from.  `tables`: the words of all raw rows, as filter
    runs have counted them, which takes seconds for any corpus.
    """

    def __post_init__(self) -> None:
        check_bounds(self, "vocabulary", [("words", self.words in WORDS, _one_of(WORDS))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Section [loss]: the contrast between the pairs of a batch.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    smoothing: float = 0.0
    """Share of the target that all pairs of the batch are given alike; ALIGN's is 0.1."""
    mask_duplicates: bool = False
    """Pairs with equal captions are no negatives of each other."""

    def __post_init__(self) -> None:
        check_bounds(self, "loss", [("smoothing", 0 <= self.smoothing < 1, "from 0 to below 1")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Section [validation]: pairs that nothing is learnt from.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    held_out_share: float = 0.01
    """Of the pairs, chosen by their keys; 0: none, and no checkpoint is the best."""
    pairs: int = 1000
    """Held-out pairs at most that are told from one another."""
    every_steps: int = 1000

    def __post_init__(self) -> None:
        rules = [
            ("held_out_share", 0 <= self.held_out_share < 1, "from 0 to below 1"),
            ("pairs", self.pairs >= 2, "2 or more"),
            ("every_steps", self.every_steps >= 1, "1 or more"),
        ]
        check_bounds(self, "validation", rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Section [checkpoints]; it changes nothing in what is learnt.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    every_steps: int = 1000
    """A run that was killed loses so many steps at most."""
    keep: int = 2
    """So many of the last ones stay, and the best one by the validation loss."""

    def __post_init__(self) -> None:
        rules = [
            ("every_steps", self.every_steps >= 1, "1 or more"),
            ("keep", self.keep >= 1, "1 or more"),
        ]
        check_bounds(self, "checkpoints", rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Section [log]; it changes nothing in what is learnt.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    every_steps: int = 10
    """So often the metrics of a step are written."""
    wandb_project: str = ""
    """Of W&B, which the metrics are sent to, too; empty: they are not."""

    def __post_init__(self) -> None:
        check_bounds(self, "log", [("every_steps", self.every_steps >= 1, "1 or more")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that decides a run, but for the data.

    Raises:
        RecipeError: A setting is out of its bounds.
    """

    name: str
    steps: int
    batch: int
    """Pairs that are told from one another in a step, of all GPUs together."""
    microbatch: int = 0
    """Pairs that a GPU computes at once; 0: its share of the batch.

    A smaller one costs a second pass forward, saves memory, and gives the same gradients but for
    batch normalisation, whose statistics are of a microbatch.
    """
    distribution: str = "ddp"
    """How several GPUs share the model: each has it (`ddp`), or a part of each layer (`fsdp`)."""
    seed: int = 0
    model: ModelConfig
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    captions: Captions = field(default_factory=Captions)
    loader: LoaderSettings = field(default_factory=LoaderSettings)
    loss: Loss = field(default_factory=Loss)
    optimizer: OptimizerConfig
    clip_norm: float = 0.0
    """Longest gradient; 0: no bound."""
    validation: Validation = field(default_factory=Validation)
    checkpoints: Keeping = field(default_factory=Keeping)
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        warmup = self.optimizer.warmup_steps
        rules = [
            ("steps", self.steps >= 1, "1 or more"),
            ("batch", self.batch >= 2, "2 or more"),
            ("microbatch", self.microbatch >= 0, "0 or more"),
            ("distribution", self.distribution in WAYS, _one_of(WAYS)),
            ("seed", 0 <= self.seed < 2**32, "from 0 to 2^32 - 1"),
            ("clip_norm", self.clip_norm >= 0, "0 or more"),
            ("steps", self.steps >= warmup, f"optimizer.warmup_steps or more, {warmup:,}"),
        ]
        check_bounds(self, "", rules)

    def deciding(self) -> dict[str, Any]:
        """Return, in plain values, what decides the weights that a run ends with."""
        plain = asdict(self)
        for section in ("name", "checkpoints", "log"):
            del plain[section]
        for name in ("threads", "prefetch"):
            del plain["loader"][name]
        return plain


def read_settings(name: str, changes: Sequence[str] = ()) -> Settings:
    """Read a recipe: a preset's name, or a path.

    Args:
        name: Of the recipe.
        changes: Values to set over it, such as `optimizer.learning_rate=1e-4`.

    Raises:
        RecipeError: There is no such recipe, or it is wrong.
    """
    return settings_of(read_model_table("train", name, changes), name)


def settings_of(table: Mapping[str, Any], where: str) -> Settings:
    """Build settings from plain values, such as a recipe's or those that a run has kept.

    Raises:
        RecipeError: They are wrong.
    """
    settings: Settings = build(Settings, table, "", where)
    return settings


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"
