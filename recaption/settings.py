"""Recipes of recaptioning: every number of it, read from TOML and checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from filters.parsing import build, read_table
from filters.rule import RecipeError
from recaption.checking import Bounds
from recaption.choosing import Choose
from recaption.config import Decode, Server
from recaption.files import read_recipe_text
from recaption.learning import Learning


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Learning):
    """What is learnt, how captions are written, and which of them stay."""

    name: str
    of_kept: bool = True
    """Write captions for the pairs that the filter run kept, too, and judge theirs."""
    decode: Decode = field(default_factory=Decode)
    captions: Bounds = field(default_factory=Bounds)
    """What is a caption at all."""
    server: Server = field(default_factory=Server)
    choose: Choose = field(default_factory=Choose)


def read_settings(name: str, changes: Sequence[str] = ()) -> Settings:
    """Read a recipe: a preset's name, or a path.

    Args:
        name: Of the recipe.
        changes: Values to set over it, such as `decode.strategy=greedy`.

    Raises:
        RecipeError: There is no such recipe, or it is wrong.
    """
    return build(Settings, read_model_table("recaption", name, changes), "", name)


def read_model_table(package: str, name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Read the recipe of a model whose vocabulary is yet to be learnt.

    Args:
        package: Of ours, whose preset may be meant.
        name: Of the recipe.
        changes: Values to set over it.

    Raises:
        RecipeError: There is no such recipe, or it names the size of the vocabulary.
    """
    table = read_table(read_recipe_text(package, name), name, tuple(changes))
    model = table.get("model", {})
    if isinstance(model, dict):
        if "vocabulary" in model:
            raise RecipeError(
                f"model.vocabulary must not be named, got it in recipe {name}; set vocabulary.size"
            )
        table["model"] = {**model, "vocabulary": 1}  # until there is one
    return table
