"""Sentences that a class's name is put into; `{}` stands for the name.

Source of the sets: the prompt engineering notebook of openai/CLIP, whose 80 sentences follow the
grammar below.
"""

from collections.abc import Sequence
from pathlib import Path

from filters.rule import RecipeError

_LOOKS = (
    "bad",
    "low resolution",
    "cropped",
    "bright",
    "dark",
    "black and white",
    "close-up",
    "pixelated",
    "jpeg corrupted",
    "blurry",
    "good",
)
_THINGS = ("hard to see", "clean", "dirty", "cool", "nice", "small", "weird", "large")
_WORKS = (
    "a sculpture",
    "a rendering",
    "graffiti",
    "a tattoo",
    "a drawing",
    "a painting",
    "a doodle",
    "a sketch",
    "a rendition",
    "art",
)
_MATERIALS = ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")
_ARTICLES = ("a", "the")

CLIP = (
    *(f"a {look} photo of {article} {{}}." for look in _LOOKS for article in _ARTICLES),
    *(f"a photo of {article} {kind} {{}}." for kind in _THINGS for article in _ARTICLES),
    *(f"a photo of {word} {{}}." for word in ("a", "the", "my", "one", "many")),
    *(f"{work} of {article} {{}}." for work in _WORKS for article in _ARTICLES),
    *(f"{article} {material} {{}}." for material in _MATERIALS for article in _ARTICLES),
    *(f"{article} {{}} in a video game." for article in _ARTICLES),
    *(f"itap of {word} {{}}." for word in ("a", "the", "my")),
)
"""The 80 of CLIP and ALIGN for ImageNet."""

SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""A subset of them, found by forward selection; says the notebook, a bit better than all 80."""

SIMPLE = ("a photo of a {}.",)

SETS = {"clip": CLIP, "seven": SEVEN, "simple": SIMPLE}


def open_templates(name: str) -> tuple[str, ...]:
    """Return a set by its name, or the lines of a file.

    Raises:
        RecipeError: It is neither.
    """
    if name in SETS:
        return SETS[name]
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"templates must be {', '.join(SETS)} or a text file, got {name}: {error}; correct it"
        ) from None
    return parse_templates(text, name)


def parse_templates(text: str, where: str) -> tuple[str, ...]:
    """Read templates, one a line; `{c}`, as clip_benchmark writes it, is `{}` too.

    Raises:
        RecipeError: There is none, or one of them has no place for the name.
    """
    lines = [line.strip().replace("{c}", "{}") for line in text.splitlines() if line.strip()]
    for line in lines or [""]:
        if "{}" not in line:
            raise RecipeError(
                f"each line of templates must have {{}} for the class, got {line[:60]!r} in "
                f"{where}; add it"
            )
    return tuple(lines)


def fill(templates: Sequence[str], name: str) -> list[str]:
    """Put a class's name, as it is, into each template."""
    return [template.replace("{}", name) for template in templates]
