"""The numeric limits of a recipe, and the other values that each of them might have had."""

from dataclasses import dataclass, fields, replace

from filters.recipe import Recipe
from filters.rule import Limit, RecipeError, Rule
from pipelines.plan import check_rule

_ENDS = {
    ">=": ("min", "inclusive"),
    ">": ("min", "exclusive"),
    "<=": ("max", "inclusive"),
    "<": ("max", "exclusive"),
}
"""How the field of a limit begins and ends, by its operator."""


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(round(first + at * step, 6) for at in range(round((last - first) / step) + 1))


def _powers(least: int, most: int, *digits: float) -> tuple[float, ...]:
    every = (round(digit * 10**power) for power in range(12) for digit in digits)
    return tuple(value for value in every if least <= value <= most)


_WORDS = (*range(1, 13), 14, 16, 18, 20, 22, 25, 30, 35, 40, 50, 64, 100, 256)
_SHARES = _steps(0.0, 1.0, 0.05)
_SHARED = _powers(1, 10_000, 1, 1.5, 2, 3, 5, 7)

_STOPS: dict[str, tuple[float, ...]] = {
    "token_count": _WORDS,
    "word_count": _WORDS,
    "char_count": _powers(1, 2000, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5),
    "score of another language": _SHARES,
    "nsfw_score": (0.01, 0.02, *_SHARES[1:-1], 0.98, 0.99),
    "clip_score": (0.1, 0.15, *_steps(0.2, 0.4, 0.01), 0.45, 0.5),
    "share of capitalised words": _SHARES,
    "share of repeated words": _SHARES,
    "embedding_similarity": _steps(0.5, 1.0, 0.025),
    "phash_distance": tuple(range(16)),
    "pdq_distance": tuple(range(0, 64, 3)),
    "aspect_ratio": (1, 1.1, 1.2, 1.34, 1.5, 1.6, 1.78, 2, 2.25, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 20),
    "shorter_side_px": (
        *(32, 48, 64, 80, 100, 128, 150, 175, 200, 224, 256, 300, 336, 384),
        *(400, 448, 512, 600, 640, 768, 800, 1024, 1536, 2048),
    ),
    "width * height": _powers(10_000, 500_000_000, 1, 1.5, 2, 3, 5, 7),
    "image_bytes": _powers(500, 5_000_000, 1, 1.5, 2, 3, 5, 7),
    "images_per_text": _SHARED,
    "texts_per_image": _SHARED,
    "ngram_rank": _powers(100, 1_000_000_000, 1, 2, 5),
}
"""Values to try, by what a limit is on; ours: those of the presets, and round ones around them."""

_FACTORS = (0.1, 0.2, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2, 5, 10)
"""Of its own value, for a limit on something else."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A numeric limit of a rule, and the values that it might have."""

    rule: str
    field: str
    """Of the rule in the recipe; empty: the limit cannot be set."""
    op: str
    reason: str
    stops: tuple[float, ...]
    """The values, from the loosest to the strictest."""
    own: int
    """Which of them the recipe has."""


def thresholds_of(rule: Rule, recipe: Recipe) -> list[Threshold]:
    """Return a rule's limits in its order; none, if they are no plain bounds on its values."""
    limits = rule.limits()
    if type(rule).__call__ is not Rule.__call__ or not all(x.op in _ENDS for x in limits):
        return []
    return [_threshold(rule, limit, recipe) for limit in limits]


def _threshold(rule: Rule, limit: Limit, recipe: Recipe) -> Threshold:
    field, own = _field(rule, limit), limit.bound or 0
    others = _others(rule, field, own, recipe) if field else []
    stops = sorted({own, *others}, reverse=limit.op in {"<", "<="})
    return Threshold(rule.name, field, limit.op, limit.reason, tuple(stops), stops.index(own))


def _field(rule: Rule, limit: Limit) -> str:
    begins, ends = _ENDS[limit.op]
    names = (f.name for f in fields(rule))  # type: ignore[arg-type]  # all rules are dataclasses
    named = (name for name in names if name.startswith(begins) and name.endswith(ends))
    return next((name for name in named if getattr(rule, name) == limit.bound), "")


def _others(rule: Rule, field: str, own: float, recipe: Recipe) -> list[float]:
    """Return the values that the field may have."""
    around = tuple(float(f"{own * factor:.3g}") for factor in _FACTORS)
    return [
        stop for stop in _STOPS.get(rule.subject, around) if _is_allowed(rule, field, stop, recipe)
    ]


def _is_allowed(rule: Rule, field: str, value: float, recipe: Recipe) -> bool:
    try:
        check_rule(replace(rule, **{field: value}), recipe)  # type: ignore[type-var]
    except RecipeError:
        return False
    return True
