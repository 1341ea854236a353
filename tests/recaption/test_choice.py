"""Choosing captions by stored scores: each rule against a plain reading of its source."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.rule import RecipeError
from recaption.captions import SCHEMA
from recaption.choosing import RULES, Bounds, Choose, choose, raw_cosines, top_share
from recaption.statistics import Distinct, Tally

SCORE = st.integers(0, 10).map(lambda tenths: tenths / 10)
FAILED = {"text": "", "failure": "empty", "itc": None, "itm": None}
CANDIDATES = st.builds(
    lambda text, itc, itm, fails: FAILED if fails else {"text": text, "itc": itc, "itm": itm},
    st.sampled_from(["a dog", "a cat", "a red shoe"]),
    SCORE,
    SCORE,
    st.sampled_from([False, False, False, True]),
)
BOUNDS = Bounds(itm=0.5, raw_itc=0.6)


@st.composite
def rows(draw: Any) -> dict[str, Any]:
    raw = draw(st.sampled_from([None, "raw one", "raw two"]))
    asked = draw(st.booleans())
    known = {"uid": "u", "key": "k", "raw": raw, "asked": asked}
    known["kept"] = raw is not None and draw(st.booleans())
    if asked or draw(st.booleans()):  # it was asked before another decision
        known["candidates"] = draw(st.lists(CANDIDATES, max_size=3))
        known |= {"raw_itc": raw and draw(SCORE), "raw_itm": raw and draw(SCORE)}
    return known


def single(value: float | None) -> float | None:
    return None if value is None else float(np.float32(value))


def by_hand(row: dict[str, Any], rule: str) -> tuple[Any, ...]:
    """Choose for one row; return chosen, origin, winner, keeps_raw, keeps_synthetic."""
    by = "itc" if rule in ("theory", "threshold-mix") else "itm"
    tried = [(one[by], -n) for n, one in enumerate(row.get("candidates") or ()) if one["text"]]
    winner = -max(tried)[1] if tried else None
    best = row["candidates"][winner] if winner is not None else None
    raw, synthetic = bool(row["kept"]), best is not None
    if not row["asked"]:
        return (row["raw"] if raw else None, "raw" if raw else None, winner, raw, False)
    raw_itc, raw_itm = single(row["raw_itc"]), single(row["raw_itm"])
    if rule == "capfilt":
        raw = raw and raw_itm >= 0.5
        synthetic = synthetic and single(best["itm"]) >= 0.5
    elif rule == "theory":
        synthetic = synthetic and (raw_itc is None or single(best["itc"]) > raw_itc)
        raw = raw and not synthetic
    elif rule == "threshold-mix":
        raw = raw and raw_itc >= 0.6
        synthetic = synthetic and not raw
    elif rule == "raw":
        synthetic = False
    chosen = row["raw"] if raw else best["text"] if synthetic else None
    origin = "raw" if raw else "synthetic" if synthetic else None
    return chosen, origin, winner, raw, synthetic


@pytest.mark.parametrize("rule", RULES)
@given(several=st.lists(rows(), max_size=6))
def test_a_rule_chooses_what_its_source_says(rule: str, several: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(several, SCHEMA)

    chosen = choose(table, Choose(rule=rule), BOUNDS)

    assert chosen.schema.equals(SCHEMA)
    names = ("chosen", "origin", "winner", "keeps_raw", "keeps_synthetic")
    assert [tuple(row[n] for n in names) for row in chosen.to_pylist()] == [
        by_hand(row, rule) for row in several
    ]


def test_choosing_anew_forgets_the_choice_before() -> None:
    row = {"raw": "raw", "kept": True, "asked": True, "raw_itm": 0.1, "raw_itc": 0.1}
    row["candidates"] = [{"text": "new", "itc": 0.9, "itm": 0.9}]
    table = pa.Table.from_pylist([row], SCHEMA)

    first = choose(table, Choose(), BOUNDS)
    back = choose(first, Choose(rule="raw"), BOUNDS)

    assert first["chosen"].to_pylist() == ["new"]
    assert back["chosen"].to_pylist() == ["raw"]


@pytest.mark.parametrize(("share", "cut"), [(0.25, 0.8), (0.5, 0.6), (0.74, 0.6), (1.0, 0.2)])
def test_the_top_share_is_of_raw_captions_that_were_kept(share: float, cut: float) -> None:
    values = [0.2, 0.8, None, 0.6, 0.4]
    cosines = [{"raw_itc": value, "kept": True} for value in values]
    table = pa.Table.from_pylist([*cosines, {"raw_itc": 0.99, "kept": False}], SCHEMA)

    assert top_share([raw_cosines(table)], share) == pytest.approx(cut)


def test_no_share_is_in_no_top() -> None:
    assert np.isnan(top_share([np.array([0.5])], 0.3))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rule": "best"}, "choose.rule must be capfilt, theory, threshold-mix, mix, raw"),
        ({"raw_top_share": 1.5}, "choose.raw_top_share must be from 0 to 1, got 1.5"),
        ({"min_itm_inclusive": -0.1}, "choose.min_itm_inclusive must be from 0 to 1, got -0.1"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Choose(**values)


def test_the_statistics_count_what_was_chosen() -> None:
    def row(raw: str, itm: float, *texts: str, kept: bool = True) -> dict[str, Any]:
        found = [{"text": t, "itm": 0.9, "itc": 0.9} for t in texts]
        known = {"raw": raw, "kept": kept, "asked": True, "raw_itm": itm, "raw_itc": itm}
        return known | {"candidates": found or [FAILED]}

    several = [
        row("a red dog", 0.9, "A red  dog", "a dog that runs"),
        row("a cat", 0.1, "a cat that sits", "a cat that sits"),
        row("click here", 0.1, "a dog that runs", kept=False),
        row("nothing like it", 0.2),
    ]
    table = choose(pa.Table.from_pylist(several, SCHEMA), Choose(), BOUNDS)
    tally = Tally(0.5)
    tally.add(table.slice(0, 2))
    tally.add(table.slice(2))

    told = tally.told()

    counts = {"rows": 4, "asked": 4, "kept_before": 3, "kept": 3, "candidates": 6}
    counts |= {"replaced": 1, "rescued": 1, "lost": 1, "both": 1}
    assert {name: told[name] for name in counts} == counts
    assert told["raw_acceptance"] == 1 / 4
    assert told["synthetic_acceptance"] == 1
    assert told["copied_from_raw"] == 1 / 5
    assert told["failures"] == {"empty": 1}
    assert told["texts"]["synthetic"] == {
        "captions": 5,
        "mean_words": 19 / 5,
        "unique": 3,
        "distinct_2": 8 / 14,
        "unique_trigrams": 5,
    }
    assert [part["replaced"] for part in told["replaced_by_raw_score"]] == [1, 0, 0]
    assert sum(part["pairs"] for part in told["replaced_by_raw_score"]) == 3


def test_distinct_hashes_are_counted_to_about_a_percent() -> None:
    every = np.random.default_rng(0).integers(0, 2**64, 300_000, np.uint64)
    few, many = Distinct(), Distinct()
    few.add(np.concatenate([every[:1000], every[:500]]))
    for part in np.split(np.concatenate([every, every[::-1]]), 6):
        many.add(part)

    assert few.count() == 1000
    assert many.count() == pytest.approx(300_000, rel=0.012)


def test_a_corpus_is_chosen_from_when_all_of_it_is_scored(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([], SCHEMA), tmp_path / "a.parquet")
    tally = Tally(0.5)
    tally.add(pq.read_table(tmp_path / "a.parquet"))

    assert tally.told()["raw_acceptance"] is None
