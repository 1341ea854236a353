"""What if: the counts of cells tell the funnel that deciding again would."""

import base64
import itertools
import json
import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.decision import judge
from filters.intact import ERRORS
from filters.parsing import parse
from filters.recipe import Recipe
from pipelines import cells
from pipelines.commands import main
from pipelines.decide import add_places
from pipelines.plan import check_rule, read_recipe
from pipelines.schema import COLUMNS
from pipelines.statistics import add, read_statistics
from pipelines.what_if import Grid, count_cells, grid_of, packed
from tests.outputs import manifest_of

PRESETS = ("align", "conceptual-captions", "coyo", "datacomp-basic", "laion")
RECIPE = """
name = "mine"
[rules.token_count]
min_inclusive = 3
max_exclusive = 20
[rules.file_name]
[rules.aspect_ratio]
max_exclusive = 3
[rules.language]
max_other_score_exclusive = 0.5
[rules.shorter_side]
min_exclusive = 200
"""
ROW = st.fixed_dictionaries(
    {
        "uid": st.just("0" * 32),
        "error": st.none() | st.sampled_from(ERRORS),
        "caption": st.none() | st.sampled_from(["a dog", "IMG_1234.jpg"]),
        "token_count": st.none() | st.integers(0, 30),
        "aspect_ratio": st.none() | st.sampled_from([1.0, 2.0, 2.999, 3.0, 3.5, float("nan")]),
        "language": st.none() | st.sampled_from(["en", "de"]),
        "language_score": st.none() | st.sampled_from([0.0, 0.35, 0.4, 0.45, 0.5, 0.55, 1.0]),
        "shorter_side_px": st.none() | st.sampled_from([100, 199, 200, 201, 224, 225]),
        "decoded": st.none() | st.booleans(),
    }
)
Row = dict[str, Any]


def counted(recipe: Recipe, rows: list[Row]) -> dict[str, Any]:
    columns = add_places(pa.RecordBatch.from_pylist(rows, COLUMNS), None)
    return count_cells(grid_of(recipe), columns, judge(columns, recipe.rules))


def funnel_at(told: dict[str, Any], stops: list[int]) -> tuple[dict[str, int], int]:
    """Read the packed cells as a page does, but one by one: rows per reason, and undecoded ones."""
    raw, number = zlib.decompress(base64.b64decode(told["data"])), told["cells"]
    counts = np.frombuffer(raw, "<f8", 2 * number).reshape(2, number)
    digits = np.frombuffer(raw, np.uint8, offset=16 * number).reshape(len(stops) + 1, number)
    found: dict[str, int] = {}
    undecoded = 0
    for cell in range(number):
        fixed = told["fixed"][digits[-1, cell] - 1] if digits[-1, cell] else None
        before = fixed["place"] if fixed else len(stops)
        broken = (at for at in range(before) if stops[at] >= digits[at, cell])
        first = next(broken, None)
        reason = fixed["reason"] if fixed else "kept"
        reason = reason if first is None else told["thresholds"][first]["reason"]
        found[reason] = found.get(reason, 0) + int(counts[0, cell])
        undecoded += int(counts[1, cell]) if reason == "kept" else 0
    return found, undecoded


def at_stops(recipe: Recipe, told: dict[str, Any], stops: list[int]) -> Recipe:
    """Return the recipe that a page's sliders stand for."""
    values: dict[str, dict[str, float]] = {}
    for one, stop in zip(told["thresholds"], stops, strict=True):
        if one["field"]:
            values.setdefault(one["rule"], {})[one["field"]] = one["stops"][stop]
    rules = tuple(
        replace(rule, **values.get(rule.name, {}))  # type: ignore[type-var]
        for rule in recipe.rules
    )
    return replace(recipe, rules=rules)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=30), choice=st.randoms(use_true_random=False))
def test_the_cells_tell_the_funnel_at_every_stop(rows: list[Row], choice: Any) -> None:
    recipe = parse(RECIPE, "mine")
    told = packed(counted(recipe, rows))
    columns = add_places(pa.RecordBatch.from_pylist(rows, COLUMNS), None)

    for _ in range(5):
        stops = [choice.randrange(len(one["stops"])) for one in told["thresholds"]]
        verdicts = judge(columns, at_stops(recipe, told, stops).rules)
        reasons = [reason or "kept" for reason in verdicts["reason"].to_pylist()]

        found, undecoded = funnel_at(told, stops)

        assert found == {reason: reasons.count(reason) for reason in {*reasons}}
        kept = (row for row, reason in zip(rows, reasons, strict=True) if reason == "kept")
        assert undecoded == sum(row["decoded"] is None for row in kept)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    most=st.integers(1, 30),
    order=st.randoms(use_true_random=False),
)
def test_cells_are_bounded_and_the_same_however_the_rows_are_cut(
    rows: list[Row], cuts: list[int], most: int, order: Any
) -> None:
    recipe = parse(RECIPE, "mine")
    bounds = itertools.pairwise([0, *sorted(cuts), 40])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "MAX_CELLS", most)
        parts = [{"what_if": counted(recipe, rows[a:b])} for a, b in bounds]
        parts = json.loads(json.dumps(parts))
        order.shuffle(parts)

        total, whole = add(parts)["what_if"], counted(recipe, rows)

    assert total == whole
    told = packed(total)
    own = [one["own"] for one in told["thresholds"]]
    all_own = all(len(one["stops"]) == 1 for one in told["thresholds"])
    assert told["cells"] <= most or all_own
    assert [one["stops"][at] for one, at in zip(told["thresholds"], own, strict=True)] == [
        3,
        20,
        3,
        0.5,
        200,
    ]
    fine = packed(counted(recipe, rows))
    assert funnel_at(told, own) == funnel_at(fine, [one["own"] for one in fine["thresholds"]])


def test_no_more_stops_are_given_up_than_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse('name = "a"\n[rules.token_count]\nmin_inclusive = 5', "a")
    rows = [{"uid": "0" * 32, "token_count": count} for count in range(30)]
    every = packed(counted(recipe, rows))["cells"]

    monkeypatch.setattr(cells, "MAX_CELLS", every - 1)

    left = packed(counted(recipe, rows))["thresholds"][0]["stops"]
    assert left == [1, 3, 5, 7, 9, 11, 14, 18, 22, 30, 40, 64, 256]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_limit_of_a_preset_has_values_that_it_may_be_set_to(preset: str) -> None:
    recipe = read_recipe(preset)
    grid: Grid = grid_of(recipe)

    set_in_recipe = [
        (rule.name, field.name, getattr(rule, field.name))
        for rule in recipe.rules
        for field in fields(rule)  # type: ignore[arg-type]
        if field.name.startswith(("min_", "max_"))
        and getattr(rule, field.name) is not None
        and rule.name != "duplicate"
    ]
    assert [
        (one.rule, one.field, one.stops[one.own]) for one in grid.thresholds if one.field
    ] == set_in_recipe
    for one in grid.thresholds:
        rule = next(rule for rule in recipe.rules if rule.name == one.rule)
        assert (len(one.stops) > 8) == bool(one.field)
        assert len(one.stops) < 40
        for stop in one.stops if one.field else ():
            check_rule(replace(rule, **{one.field: stop}), recipe)  # type: ignore[type-var]


@pytest.mark.parametrize("preset", PRESETS)
def test_stops_go_from_the_loosest_to_the_strictest(preset: str) -> None:
    for one in grid_of(read_recipe(preset)).thresholds:
        lower = one.op in {">", ">="}

        assert list(one.stops) == sorted({*one.stops}, reverse=not lower)


@pytest.mark.parametrize(
    "changes",
    [
        {"token_count.min_inclusive": 1},
        {"token_count.min_inclusive": 8, "token_count.max_inclusive": 10, "language": 0.0},
        {"images_per_text.max_inclusive": 3, "shorter_side.min_exclusive": 224},
        {"ngram_rank.max_inclusive": 500, "aspect_ratio.max_exclusive": 1.34},
        {"nsfw_score.max_inclusive": 0.05, "texts_per_image.max_inclusive": 10_000},
    ],
    ids=str,
)
def test_deciding_with_the_printed_lines_gives_the_numbers_of_the_page(
    filtered: Path, tmp_path: Path, changes: dict[str, float]
) -> None:
    told = packed(read_statistics(filtered)["what_if"])
    names = [f"{one['rule']}.{one['field']}" for one in told["thresholds"]]
    stops = [one["own"] for one in told["thresholds"]]
    options = []
    for name, value in changes.items():
        full = "language.max_other_score_exclusive" if name == "language" else name
        at = names.index(full)
        stops[at] = told["thresholds"][at]["stops"].index(value)
        options += ["--set", f"rules.{full}={value}"]

    recipe = ("--recipe", str(filtered / "manifest.json"))
    output = ("--output", str(tmp_path / "out"))
    assert main(["decide", "--from", str(filtered), *recipe, *output, *options]) == 0

    decided, (found, undecoded) = manifest_of(tmp_path / "out"), funnel_at(told, stops)
    assert found == decided["dropped"] | {"kept": decided["kept"]}
    assert undecoded == decided["kept_unchecked"]
    assert decided["kept"] != manifest_of(filtered)["kept"]
