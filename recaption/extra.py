"""What only the extra `recaption` installs."""

import importlib.util

from filters.rule import RecipeError


def check_installed(setting: str, instead: str = "") -> None:
    """Check, without importing them, that torch and transformers are there for a setting."""
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        raise RecipeError(
            f"{setting} must have torch and transformers to run, got no {' and no '.join(missing)}"
            f'; pip install "altmill[recaption]", or {instead or f"leave {setting} empty"}'
        )
