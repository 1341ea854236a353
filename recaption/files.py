"""Write files whole or not at all."""

import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from filters.rule import RecipeError
from recaption.stores import StorePath, sending, to_path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` only if all went well.

    What is to be in an object store is written on this machine, and sent.
    """
    if isinstance(path, StorePath):
        with sending(path) as temporary:
            yield temporary
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name[:32]}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    )
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def put_folder(folder: Path, place: Path, last: str) -> None:
    """Move a folder of this machine to its place; in a store one file of it is the last one there.

    Args:
        folder: The folder; one that is for a store stays here, too.
        place: Where to: nothing, or an empty folder.
        last: The file's name, by which a folder is known to be whole.
    """
    if not isinstance(place, StorePath):
        folder.replace(place)
        return
    for part in sorted(folder.iterdir(), key=lambda part: part.name == last):
        (place / part.name).put_tree(part)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; what is no Unicode, of a path, is escaped as in JSON."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, its keys in their own order."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def sweep(*folders: Path) -> None:
    """Remove what processes that were killed had begun to write."""
    for folder in folders:
        for path in folder.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if isinstance(path, StorePath):
        path.remove()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_recipe_text(package: str, name: str) -> str:
    """Read a recipe's TOML: a preset's of a package of ours, by its name, or a file's.

    Raises:
        RecipeError: There is no such recipe.
    """
    presets = files(package) / "recipes"
    preset = presets / f"{name}.toml"
    if preset.is_file():
        return preset.read_text(encoding="utf-8")
    try:
        return to_path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = sorted(
            entry.name[:-5] for entry in presets.iterdir() if entry.name.endswith(".toml")
        )
        raise RecipeError(
            f"recipe {name} must be a preset ({', '.join(known)}) or a TOML file, got: {error}; "
            "correct the name"
        ) from None
