"""What an experiment is made of: its corpora, its cells, its arms, its ablations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from filters.parsing import build, check_bounds, read_table
from filters.rule import RecipeError

ARMS = {
    "raw": "S_w as it is",
    "h-only": "nothing of S_w",
    "rules": "S_w that the rules keep",
    "itm": "S_w whose raw captions the filter model accepts",
    "recaptioned": "S_w, every caption synthetic",
    "capfilt": "S_w, raw captions that are accepted, else synthetic ones that are",
    "threshold-mix": "S_w, raw captions of the top 30 % by cosine, else synthetic",
    "theory": "S_w, synthetic captions where their cosine is higher",
    "clean": "S_w with its true captions",
}
"""What a model learns from besides S_h, which every arm has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A place in the grid.

    Raises:
        RecipeError: A number is out of its bounds.
    """

    partner: float
    """Share of S_w whose captions name the partner's colour and shape: C_s of the theory."""
    other_image: float = 0.2
    """Share of S_w with the caption of another picture."""
    file_name: float = 0.04
    boilerplate: float = 0.03
    foreign: float = 0.03
    """What rules on captions can see, as shares of S_w."""
    clean: int
    """Pairs of S_h."""
    arms: tuple[str, ...] = ()
    """Those that are run here; none named: all of the grid."""

    def __post_init__(self) -> None:
        rules = [
            *((kind, 0 <= share <= 1, "from 0 to 1") for kind, share in self.shares.items()),
            ("partner", sum(self.shares.values()) <= 1, "so low that all noise is 1 at most"),
            ("clean", self.clean >= 40, "40 or more"),
        ]
        check_bounds(self, "cells", rules)
        if self.arms:
            _check_arms(self.arms, "cells.arms")

    @property
    def corpus(self) -> str:
        """What its S_w is called."""
        return f"partner{self.partner:g}-other{self.other_image:g}"

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.corpus}-clean{self.clean}"

    @property
    def title(self) -> str:
        """What it is called on a page."""
        return f"{self.partner:.0%} partner noise, {self.clean:,} clean pairs"

    @property
    def shares(self) -> dict[str, float]:
        """The noise of its S_w."""
        kinds = ("partner", "other_image", "file_name", "boilerplate", "foreign")
        return {kind: getattr(self, kind) for kind in kinds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """An ablation: the first cell and the first seed, with something changed.

    Raises:
        RecipeError: An arm is unknown.
    """

    name: str
    factor: str
    """What is changed, of all that ablations change."""
    arms: tuple[str, ...]
    train: tuple[str, ...] = ()
    """Changes of the recipe of training, as `--set` takes them."""
    recaption: tuple[str, ...] = ()
    """Changes of the recipe of recaptioning; none: the captions are those of the cell."""

    def __post_init__(self) -> None:
        _check_arms(self.arms, f"variants.{self.name}.arms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All that decides an experiment.

    Raises:
        RecipeError: It has no cell, a seed comes twice, or a setting is out of its bounds.
    """

    name: str
    seeds: tuple[int, ...]
    """Of the corpora, the captioner and the models, all at once."""
    images: str = ""
    """A labelled folder whose pictures take the place of scenes, as `pipelines sample --images`."""
    rows: int = 6000
    """Pairs of S_w; 0: as many as `images` has besides S_h."""
    test_rows: int = 1200
    """Pictures that models are tested on, of all classes, and no model has seen; 0: all."""
    size: str = "large"
    wordings: int = 4
    side_px: int = 64
    """See `pipelines.mixture.Mixture`: small pictures of large shapes, put in few ways, so that it
    takes minutes."""
    arms: tuple[str, ...] = tuple(arm for arm in ARMS if arm != "theory")
    cells: tuple[Cell, ...]
    variants: tuple[Variant, ...] = ()
    train: str = ""
    recaption: str = ""
    filter: str = ""
    """Recipes of the three jobs, of altmill's own or TOML files; empty: the first of its own."""
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Changes of `train` and `recaption`, of all their runs."""

    def __post_init__(self) -> None:
        rules = [
            ("seeds", len(self.seeds) == len(set(self.seeds)) > 0, "different seeds, one or more"),
            ("rows", self._enough(self.rows), "100 or more, or 0 of images"),
            ("test_rows", self._enough(self.test_rows), "100 or more, or 0 of images"),
            ("cells", len({cell.name for cell in self.cells}) == len(self.cells) > 0, "different"),
            ("variants", self._differ(), "of different names"),
            ("changes", set(self.changes) <= {"train", "recaption"}, "of train and recaption"),
        ]
        check_bounds(self, "", rules)
        _check_arms(self.arms, "arms")

    def _enough(self, rows: int) -> bool:
        return rows >= 100 or (self.images != "" and rows == 0)

    def _differ(self) -> bool:
        return len({slug(variant.name) for variant in self.variants}) == len(self.variants)

    def recipe(self, job: str) -> str:
        """Return the recipe of a job: `filter`, `recaption` or `train`."""
        given = getattr(self, job) or job
        own = files("train.experiments.evidence") / "recipes" / f"{given}.toml"
        return str(own) if own.is_file() else str(given)


def read_grid(name: str, changes: Sequence[str] = ()) -> Grid:
    """Read a grid: `default`, `large`, `ablations`, `images`, or a TOML file.

    Raises:
        RecipeError: There is none, or it is wrong.
    """
    preset = files("train.experiments.evidence") / "grids" / f"{name}.toml"
    try:
        text = (preset if preset.is_file() else Path(name)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"grid {name} must be default, large, ablations, images or a TOML file, got: {error}; "
            "correct the name"
        ) from None
    grid: Grid = build(Grid, read_table(text, name, tuple(changes)), "", name)
    return grid


def slug(name: str) -> str:
    """Return a name that a folder can have."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "variant"


def _check_arms(arms: Sequence[str], what: str) -> None:
    unknown = next((arm for arm in arms if arm not in ARMS), None)
    if unknown or not arms or len(set(arms)) < len(arms):
        raise RecipeError(
            f"{what} must be different ones of {', '.join(ARMS)}, got {', '.join(arms) or 'none'}; "
            "correct them"
        )
