"""What the pages that altmill writes share: how their texts and numbers are written.

A page opens from disk and asks nothing of a network.  Names and captions come from the open web:
each is cut, its invisible characters are spelt out, and the templates escape it.
"""

import unicodedata
from pathlib import Path

import jinja2

THIN_SPACE = "\u202f"
NONE = "\u2013"


def pages(*others: Path) -> jinja2.Environment:
    """Return what renders the templates of other folders, and beside this file, escaping texts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*others, Path(__file__).parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"inert": inert, "count": count, "share": share}
    return environment


def inert(text: str, max_characters: int) -> str:
    """Cut a text from the web and spell out what would not show or would reorder its line.

    Control characters, separators, lone surrogates and format characters such as the
    right-to-left override show as their code points. Joiners, which some scripts need, stay.
    """
    head = "".join(map(_visible, text[:max_characters]))
    return head if len(text) <= max_characters else f"{head}…"


def _visible(character: str) -> str:
    if character.isprintable() or character in "\u200c\u200d":
        return character
    if character in "\n\t":
        return "↵" if character == "\n" else "⇥"
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return f"⟨U+{ord(character):04X}⟩" if hidden else character


def count(number: float | None) -> str:
    """A number with thin spaces between its thousands."""
    if number is None:
        return NONE
    digits = ".0f" if float(number).is_integer() else ".10g"
    return f"{number:,{digits}}".replace(",", THIN_SPACE)


def share(part: float, whole: float) -> str:
    """A percentage with as many digits as it can carry; only none is 0%, and only all is 100%."""
    if not whole:
        return NONE
    percent = 100 * part / whole
    if part in {0, whole}:
        return f"{percent:.0f}%"
    if percent < 0.01:
        return "<0.01%"
    return ">99.9%" if percent > 99.9 else f"{percent:.{2 if percent < 1 else 1}f}%"
