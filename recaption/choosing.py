"""Choose between an input's own caption and synthetic ones, by scores that are stored."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.rule import RecipeError

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choose:
    """Which caption stays; a recipe's `[choose]`."""

    rule: str = "capfilt"
    """The way to choose.

    `capfilt`: keep what the filter calls matched, of both; the raw caption goes first.  Source:
    BLIP, section 3.3 (arXiv:2201.12086).
    `theory`: replace the raw caption if and only if the synthetic one's cosine to the image is
    higher.  Source: Sun et al., section 3, stage 3.
    `threshold-mix`: the raw caption where its cosine is in the top share, the synthetic one
    elsewhere.  Source: Nguyen et al. 2023 (arXiv:2307.10350).
    `mix`: keep both, and draw at training.  Source: Recap-DataComp-1B (arXiv:2406.08478).
    `raw`: give the raw captions back.
    """
    min_itm_inclusive: float | None = None
    """The filter's probability from which on `capfilt` calls a caption matched.

    Where it is not set, it is what the filter was calibrated to.
    """
    raw_top_share: float = 0.3
    """Of raw captions that `threshold-mix` keeps.  Source: Nguyen et al., "raw (top 30%)"."""
    raw_probability: float = 0.8
    """With which training draws the raw one of two.  Source: Recap-DataComp-1B, p = 0.8."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise RecipeError(
                f"choose.rule must be {', '.join(RULES)}, got {self.rule!r}; correct it"
            )
        for name in ("min_itm_inclusive", "raw_top_share", "raw_probability"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise RecipeError(f"choose.{name} must be from 0 to 1, got {value:g}; correct it")


class Bounds(NamedTuple):
    """What a choice goes by, besides a row's own scores."""

    itm: float
    """From which on a caption is matched."""
    raw_itc: float
    """From which on a raw caption is in the top share of the corpus."""


class Scores(NamedTuple):
    """What is known of rows; NaN where it is not known."""

    has_raw: Bools
    """The filter run kept the pair with its own caption."""
    has_synthetic: Bools
    raw_itc: NDArray[np.float64]
    raw_itm: NDArray[np.float64]
    itc: NDArray[np.float64]
    """Of the best candidate, by the rule's own score."""
    itm: NDArray[np.float64]


def _capfilt(scores: Scores, bounds: Bounds) -> tuple[Bools, Bools]:
    return scores.raw_itm >= bounds.itm, scores.itm >= bounds.itm


def _theory(scores: Scores, _: Bounds) -> tuple[Bools, Bools]:
    better = ~(scores.raw_itc >= scores.itc)
    return ~(better & scores.has_synthetic), better


def _threshold_mix(scores: Scores, bounds: Bounds) -> tuple[Bools, Bools]:
    raw = scores.has_raw & (scores.raw_itc >= bounds.raw_itc)
    return raw, ~raw


def _mix(scores: Scores, _: Bounds) -> tuple[Bools, Bools]:
    every = np.ones(len(scores.has_raw), bool)
    return every, every


def _raw(scores: Scores, _: Bounds) -> tuple[Bools, Bools]:
    every = np.ones(len(scores.has_raw), bool)
    return every, ~every


RULES: dict[str, Callable[[Scores, Bounds], tuple[Bools, Bools]]] = {
    "capfilt": _capfilt,
    "theory": _theory,
    "threshold-mix": _threshold_mix,
    "mix": _mix,
    "raw": _raw,
}
"""Each says which rows' raw captions to keep, and which synthetic ones, where there are any."""

BY_COSINE = ("theory", "threshold-mix")
"""The rules that compare cosines; the others go by the probability of a match."""


def choose(captions: pa.Table, settings: Choose, bounds: Bounds) -> pa.Table:
    """Fill in who wins.

    Args:
        captions: As `captions.SCHEMA`.
        settings: Which way to choose.
        bounds: What it goes by.
    """
    by = "itc" if settings.rule in BY_COSINE else "itm"
    winner, best = _best(captions["candidates"].combine_chunks(), by)
    asked = captions["asked"].to_numpy()
    has_raw = captions["kept"].to_numpy() & pc.is_valid(captions["raw"]).to_numpy()
    scores = Scores(
        has_raw,
        asked & (winner >= 0),
        *(_floats(captions[name]) for name in ("raw_itc", "raw_itm")),
        *(_floats(best.field(name)) for name in ("itc", "itm")),
    )
    with np.errstate(invalid="ignore"):
        raw, synthetic = RULES[settings.rule](scores, bounds)
    raw = has_raw & (raw | ~asked)
    synthetic = scores.has_synthetic & synthetic
    chosen = pc.if_else(raw, captions["raw"].combine_chunks(), best.field("text"))
    either = pa.array(raw | synthetic)
    origin = pc.if_else(raw, "raw", pc.if_else(either, "synthetic", None))
    found: dict[str, Any] = {
        "chosen": pc.if_else(either, chosen, pa.scalar(None, pa.string())),
        "origin": origin,
        "winner": pa.array(winner, pa.int32(), mask=winner < 0),
        "keeps_raw": pa.array(raw),
        "keeps_synthetic": pa.array(synthetic),
    }
    for name, column in found.items():
        captions = captions.set_column(captions.schema.get_field_index(name), name, column)
    return captions


def top_share(raw_itc: Iterable[NDArray[np.float64]], share: float) -> float:
    """Return the cosine from which on a share of all raw captions is in the top; NaN: none is."""
    known = np.concatenate([np.empty(0), *raw_itc])
    known = np.sort(known[~np.isnan(known)])[::-1]
    number = int(len(known) * share)
    return float(known[number - 1]) if number else float("nan")


def raw_cosines(captions: pa.Table) -> NDArray[np.float64]:
    """Return the cosines of raw captions that the filter run kept."""
    return _floats(captions["raw_itc"].filter(captions["kept"]))


def _best(candidates: pa.ListArray, by: str) -> tuple[NDArray[np.int64], pa.StructArray]:
    """Return the place of each row's best candidate, the first of equals, and the candidate."""
    rows, each = pc.list_parent_indices(candidates), candidates.flatten()
    rows, score = rows.to_numpy(), _floats(each.field(by))
    works = pc.is_null(each.field("failure")).to_numpy(zero_copy_only=False)
    at = np.flatnonzero(works & ~np.isnan(score))
    order = at[np.lexsort((at, -score[at], rows[at]))]
    first = np.ones(len(order), bool)
    first[1:] = np.diff(rows[order]) != 0
    chosen = np.full(len(candidates), -1)
    chosen[rows[order[first]]] = order[first]
    begins = np.searchsorted(rows, np.arange(len(candidates)))
    winner = np.where(chosen >= 0, chosen - begins, -1)
    return winner, each.take(pa.array(chosen, mask=chosen < 0))


def _floats(column: Any) -> NDArray[np.float64]:
    known = pc.fill_null(pc.cast(column, pa.float64()), float("nan"))
    return np.asarray(known.to_numpy(zero_copy_only=False), np.float64)
