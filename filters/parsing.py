"""Read recipes from TOML, strictly: an unknown key or a value of another type is an error."""

import importlib
import importlib.util
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from filters.recipe import Recipe
from filters.rule import RecipeError, Rule

Bound = tuple[str, bool, str]
"""A value's name, whether it is in its bounds, and these in words."""


def parse(text: str, where: str, changes: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe.

    Args:
        text: TOML.
        where: What to call it in an error, such as its path.
        changes: Values to set over it, such as `rules.token_count.max_inclusive=30`.

    Raises:
        RecipeError: It is not TOML, a key is unknown, or a value has the wrong type.
    """
    return from_dict(read_table(text, where, changes), where)


def read_table(text: str, where: str, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read TOML; see `parse`."""
    try:
        table = tomllib.loads(text)
        for change in changes:
            _set(table, change)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"recipe {where} must be TOML, got: {error}; correct that line") from None
    return table


def from_dict(table: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain values; see `parse`."""
    rules: Any = table.get("rules", {})
    if not isinstance(rules, Mapping):
        raise RecipeError(_wrong_type("rules", "a table per rule", rules, where))
    built = tuple(_rule(name, values, where) for name, values in rules.items())
    return build(Recipe, {**table, "rules": ()}, "", where, rules=built)


def _rule(name: str, values: object, where: str) -> Rule:
    if name == "intact":
        raise RecipeError(
            f"rules.intact must not be named, got it in recipe {where}; leave it out, as every run "
            "judges by it first"
        )
    class_name = "".join(part.capitalize() for part in name.split("_"))
    found = name.isidentifier() and importlib.util.find_spec(f"filters.{name}")
    module = importlib.import_module(f"filters.{name}") if found else None
    kind = getattr(module, class_name, None)
    if not _is_rule(kind):
        raise RecipeError(
            f"rules.{name} must name a rule, got no class {class_name} in filters/{name}.py, in "
            f"recipe {where}; correct the name or write that file"
        )
    return build(kind, values, f"rules.{name}", where)


def _is_rule(kind: Any) -> typing.TypeGuard[type[Rule]]:
    return isinstance(kind, type) and issubclass(kind, Rule) and is_dataclass(kind)


def build(kind: type, values: object, path: str, where: str, **ready: object) -> Any:
    """Make a dataclass from a TOML table, strictly.

    Args:
        kind: The dataclass; its fields may be dataclasses.
        values: The table.
        path: What to call the table in an error, such as `rules.token_count`.
        where: What to call the recipe.
        **ready: Fields that are made already.

    Raises:
        RecipeError: A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(_wrong_type(path, "a table", values, where))
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            raise RecipeError(
                f"{_join(path, key)} must be a known key, got an unknown one in recipe {where}; "
                + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}")
            )
    checked = {k: _value(v, hints[k], _join(path, k), where) for k, v in values.items()} | ready
    for name, one in known.items():
        if name not in checked and one.default is MISSING and one.default_factory is MISSING:
            raise RecipeError(
                f"{_join(path, name)} must be set, got nothing in recipe {where}; add it"
            )
    return kind(**checked)


def check_bounds(settings: object, path: str, bounds: Iterable[Bound]) -> None:
    """Check the values of settings.

    Args:
        settings: The values are its attributes.
        path: What to call them in an error, such as `decode`; empty: nothing.
        bounds: Of its values.

    Raises:
        RecipeError: One is not.
    """
    for name, holds, bound in bounds:
        if not holds:
            value = getattr(settings, name)
            raise RecipeError(f"{_join(path, name)} must be {bound}, got {value!r}; correct it")


def _value(value: object, hint: Any, path: str, where: str) -> Any:
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return build(hint, value, path, where)
    if isinstance(hint, types.UnionType):  # the only unions are `float | None` and the like
        hint = next(arm for arm in typing.get_args(hint) if arm is not types.NoneType)
    origin, arms = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(one, arms[0], f"{path}[{i}]", where) for i, one in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {k: _value(one, arms[1], _join(path, k), where) for k, one in value.items()}
    accepted = (int, float) if origin is float else (origin,)
    if type(value) not in accepted or value != value:  # NaN bounds nothing
        raise RecipeError(_wrong_type(path, _NAMES.get(origin, str(origin)), value, where))
    if origin in (int, float) and not abs(value) < 2**63:  # type: ignore[arg-type]
        raise RecipeError(_wrong_type(path, "a number below 2^63", value, where))
    return value


_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    dict: "a table",
}


def _wrong_type(path: str, rule: str, value: object, where: str) -> str:
    got = repr(value) if len(repr(value)) <= 60 else repr(value)[:60] + "..."
    return (
        f"{path} must be {rule}, got {got} ({type(value).__name__}) in recipe {where}; correct it"
    )


def _set(table: dict[str, Any], change: str) -> None:
    """Set `a.b.c=VALUE` in a nested table; VALUE is TOML, or else a string."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set must be KEY=VALUE, got {change!r}; write KEY=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    for name in parents:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {path} must lie in a table, got a value at {name}; drop it")
    table[last] = value


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
