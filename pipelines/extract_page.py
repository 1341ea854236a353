"""Show what an extraction found, and what it left out, on a page."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from pipelines.page import pages
from recaption.files import write_text

MAX_DAMAGED = 50
"""Damaged inputs that the page names; the manifest names all."""


def write_extract_page(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write `index.html` into a folder, whole or not at all.

    Args:
        manifest: Of `pipelines.extract`.
        folder: Is made.
    """
    damaged = [
        (part["part"], sentence) for part in manifest["parts"] for sentence in part["damage"]
    ]
    rendered = _page().render(run=manifest, damaged=damaged[:MAX_DAMAGED], num_damaged=len(damaged))
    write_text(folder / "index.html", rendered)


@cache
def _page() -> jinja2.Template:
    return pages().get_template("extract.html.j2")
