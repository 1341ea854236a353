"""What if: count rows so that the funnel of any other thresholds can be told without reading them.

Rules overlap, so counts per threshold would not do.  A row is reduced to its *cell*: how many
values of each threshold it satisfies, of those to try, and which other rule drops it.  Rows of one
cell share their fate at all those values, so the sizes of the cells give exact numbers.

The counting is exact, and of bounded size; see `cells`.
"""

import base64
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.decision import all_rules
from filters.recipe import Recipe
from filters.rule import Rule
from pipelines.cells import Cells, Shape, cells_of
from pipelines.thresholds import Threshold, thresholds_of

_MOST_THRESHOLDS = 40
"""Of a recipe; further ones cannot be turned.  The preset with the most has 10."""


class Fixed(NamedTuple):
    """A reason that no threshold decides."""

    rule: str
    reason: str
    place: int
    """How many thresholds are judged before it."""


@dataclass(frozen=True)
class Grid:
    """What is counted of a recipe: its thresholds in the order of judging, and other reasons."""

    rules: tuple[tuple[int, Rule], ...]
    """The rules with thresholds, each with the place of its first one."""
    others: tuple[tuple[int, Rule], ...]
    """Those without, each with its bit of `broken`."""
    thresholds: tuple[Threshold, ...]
    fixed: tuple[Fixed, ...]

    @property
    def shape(self) -> Shape:
        """Return the grid's sizes."""
        sizes = tuple((len(one.stops), one.own) for one in self.thresholds)
        return Shape(sizes, tuple(one.place for one in self.fixed))

    def stored(self) -> dict[str, Any]:
        """Return what JSON can hold, so that a later version can tell what was counted."""
        thresholds = [asdict(one) | {"stops": [*one.stops]} for one in self.thresholds]
        return {"thresholds": thresholds, "fixed": [one._asdict() for one in self.fixed]}


def grid_of(recipe: Recipe) -> Grid:
    """Return what is counted of a recipe."""
    rules: list[tuple[int, Rule]] = []
    others: list[tuple[int, Rule]] = []
    thresholds: list[Threshold] = []
    fixed: list[Fixed] = []
    for bit, rule in enumerate(all_rules(recipe.rules)):
        found = thresholds_of(rule, recipe)
        if found and len(thresholds) + len(found) <= _MOST_THRESHOLDS:
            rules.append((len(thresholds), rule))
            thresholds += found
        else:
            others.append((bit, rule))
            reasons = dict.fromkeys(limit.reason for limit in rule.limits())
            fixed += [Fixed(rule.name, reason, len(thresholds)) for reason in reasons]
    return Grid(tuple(rules), tuple(others), tuple(thresholds), tuple(fixed))


def count_cells(grid: Grid, columns: pa.RecordBatch, verdicts: pa.RecordBatch) -> dict[str, Any]:
    """Count the rows of a batch per cell.

    Args:
        grid: Of the recipe.
        columns: The measured columns.
        verdicts: What `filters.decision.judge` said of them.
    """
    digits = np.empty((len(grid.thresholds) + 1, len(columns)), np.int64)
    for first, rule in grid.rules:
        values = rule.values(columns)
        known = pc.is_valid(values).to_numpy(zero_copy_only=False)
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        for at in range(first, first + len(rule.limits())):
            one = grid.thresholds[at]
            digits[at] = np.where(known, _satisfied(one, numbers), len(one.stops))
    digits[-1] = _first_fixed(grid, columns, verdicts)
    undecoded = pc.is_null(columns["decoded"]).to_numpy(zero_copy_only=False)
    return {"grid": grid.stored(), "cells": cells_of(grid.shape, digits, undecoded).stored()}


def add_cells(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Add up what was counted of two parts."""
    total = Cells.restored(one["cells"]).plus(Cells.restored(other["cells"]))
    return {"grid": one["grid"], "cells": total.stored()}


def _satisfied(one: Threshold, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of a threshold's values each number satisfies; NaN satisfies none."""
    side: Literal["left", "right"] = "right" if one.op in {">=", "<"} else "left"
    if one.op in {">=", ">"}:
        below = np.searchsorted(np.array(one.stops, np.float64), numbers, side)
        return np.where(np.isnan(numbers), 0, below)
    return len(one.stops) - np.searchsorted(np.array(one.stops[::-1], np.float64), numbers, side)


def _first_fixed(
    grid: Grid, columns: pa.RecordBatch, verdicts: pa.RecordBatch
) -> NDArray[np.int64]:
    """Return the number, from 1 on, of the first reason without a threshold; 0: there is none."""
    broken, first = verdicts["broken"].to_numpy(), np.zeros(len(columns), np.int64)
    reasons = pa.array([one.reason for one in grid.fixed], pa.string())
    for bit, rule in grid.others:
        hit = (broken >> np.uint64(bit) & np.uint64(1)).astype(bool) & (first == 0)
        if hit.any():
            given = rule(columns.filter(pa.array(hit)))
            first[hit] = pc.index_in(given, value_set=reasons).to_numpy() + 1
    return first


def packed(counted: dict[str, Any]) -> dict[str, Any]:
    """Return what a page needs to tell the funnel at any of the stops that are left.

    `data` is base64 of zlib of: rows and undecoded rows per cell (float64), the digits (uint8,
    one row of cells per threshold), and the number of the fixed reason per cell (uint8).
    """
    cells = Cells.restored(counted["cells"])
    left = cells.shape.stops(cells.level)
    counts = np.stack([cells.rows, cells.undecoded]).astype("<f8")
    data = zlib.compress(counts.tobytes() + cells.digits().astype(np.uint8).tobytes(), 9)
    thresholds = [
        one
        | {"stops": [one["stops"][at] for at in stops], "own": stops.tolist().index(one["own"])}
        | {"tried": len(one["stops"])}
        for one, stops in zip(counted["grid"]["thresholds"], left, strict=True)
    ]
    return {
        "thresholds": thresholds,
        "fixed": counted["grid"]["fixed"],
        "cells": len(cells.keys),
        "data": base64.b64encode(data).decode(),
    }
