"""Show an audit on one page, which opens from disk and asks nothing of a network.

Names come from files of the open web: each is cut, its invisible characters are spelt out, and it
is escaped.  The page has no script.
"""

from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

from pipelines.certificate import GROUPS
from pipelines.page import NONE, pages
from recaption.files import write_text


def write_page(folder: Path, stated: Mapping[str, Any], pictures: Mapping[str, Any]) -> Path:
    """Write an audit's `index.html` into `folder`, whole or not at all, and return its path."""
    write_text(folder / "index.html", render(stated, pictures))
    return folder / "index.html"


def render(stated: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        stated: What audit.json says.
        pictures: From `evidence.pictures`.
    """
    groups = groupby(stated["recall"], key=lambda row: row["transform"])
    return _page().render(
        audit=stated,
        pictures=pictures,
        rules=list(stated["summary"]["all"]),
        groups=GROUPS,
        transforms=[(name, list(rows)) for name, rows in groups],
    )


def _percent(part: float | None) -> str:
    """Return a share in percent; only none is 0, and only all is 100."""
    if part is None:
        return NONE
    if part in {0, 1}:
        return f"{100 * part:.0f}"
    return f"{min(100 * part, 99.9):.1f}" if part > 0.001 else f"{100 * part:.1g}"


def _small(part: float) -> str:
    """Return a small share as a power of ten."""
    if not part:
        return "0"
    digits, _, power = f"{part:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}·10{raised}"


@cache
def _page() -> jinja2.Template:
    environment = pages()
    environment.filters |= {"percent": _percent, "small": _small}
    return environment.get_template("audit.html.j2")
