"""What the page says follows from the figures: other figures, other words."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from train.experiments.simulation.matching import COLUMNS, distances, matches
from train.experiments.simulation.published import FIGURE, SHARES
from train.experiments.simulation.reading import figure, reading
from train.experiments.simulation.stopping import stops
from train.experiments.simulation.summary import MEASURES, summarise
from train.experiments.simulation.trial import (
    DENOISED,
    FILTERED,
    FRESH_FILTERED,
    FRESH_RAW,
    NOISY,
    RAW,
)

Row = dict[str, Any]
SETTING = {"spurious": list(SHARES)}
CONTROLS = {NOISY: 0.9, DENOISED: 0.4, FRESH_RAW: 0.0, FRESH_FILTERED: 1.0}
"""How much of the way from raw to filtered each goes."""


def told(gain: float = 1.0, shift: float = 0.0) -> Row:
    """Return the summary of trials that follow the paper's figure.

    Args:
        gain: Times the paper's, of filtered over raw texts.
        shift: Of all purified features.
    """
    rows = [
        row
        for variant, trials in (("main", 4), ("longer", 2))
        for trial in range(trials)
        for share in SHARES
        for step in (100, 200, 300)
        for row in trial_rows(variant, trial, share, step, gain, shift)
    ]
    names = ("wrong_raw", "missed_raw", "replaced_aligned")
    captions = [{"variant": "main", "trial": 0, "spurious": 0.5, **dict.fromkeys(names, 0.5)}]
    return {"setting": SETTING, **summarise(rows, captions)}


def trial_rows(
    variant: str, trial: int, share: float, step: int, gain: float, shift: float
) -> list[Row]:
    place = {"variant": variant, "trial": trial, "spurious": share, "step": step}
    worse = {100: 0.9, 200: 1.0, 300: 0.5}[step]  # the best is in the middle
    rows = []
    for arm, way in {RAW: 0.0, FILTERED: 1.0, **CONTROLS}.items():
        values = dict.fromkeys(MEASURES, 0.5) | {"held_out_loss": abs(step - 300) / 100}
        for measure, curves in FIGURE.items():
            raw, filtered = (curves[one][SHARES.index(share)] for one in ("raw", "filtered"))
            value = raw + way * gain * (filtered - raw) + 0.001 * (trial - 1.5) * (1 + way)
            values[COLUMNS[measure]] = worse * (value + (shift if measure == "purified" else 0))
        rows.append(place | {"arm": arm} | values)
    return rows


def test_curves_that_follow_the_paper_match_it() -> None:
    assert {one.verdict for one in matches(told())} == {"matches"}
    text = reading(told())
    assert "ours match 8 at every point" in text["The paper's figure"]
    assert "What would bring it nearer" not in text


def test_a_shift_and_a_lost_gain_are_called_what_they_are() -> None:
    shifted = {(one.measure, one.arm): one for one in matches(told(shift=-4))}

    assert shifted["purified", "raw"].verdict == "shifted"
    assert shifted["purified", "raw"].within == 0
    assert shifted["purified", "raw"].difference == pytest.approx(-4, abs=0.01)
    assert shifted["accuracy", "raw"].verdict == "matches"
    without = {(one.measure, one.arm): one for one in matches(told(gain=0))}
    assert without["purified", "filtered"].verdict == "matches in part"
    assert without["purified", "filtered"].worst_at == 0.5
    assert without["purified", "filtered"].worst == pytest.approx(30.6 - 42.8, abs=0.01)


def test_the_sentences_turn_with_the_figures() -> None:
    better, worse = reading(told()), reading(told(gain=-1))

    assert "raises the purified features (30.6 to 42.8" in better["The gain"]
    assert "lowers the purified features (30.6 to 18.4" in worse["The gain"]
    assert "keep 90%" in better["Aligned, or only clear"]
    assert "have 40%: naming the right features does more" in better["Aligned, or only clear"]
    assert "There is no gain in purified features" in worse["Aligned, or only clear"]
    assert "under 4 of 4 rules" in better["When to stop"]
    assert "under 0 of 4 rules" in worse["When to stop"]
    assert "in 1 of 1 variants" in better["Open choices"]
    assert "in 0 of 1 variants" in worse["Open choices"]


def test_what_cannot_be_told_apart_is_said_to_be_so() -> None:
    text = reading(told(gain=0))["The gain"]

    assert text.count("does not measurably change") == 4


def test_each_rule_stops_where_it_says() -> None:
    found = {(one.rule, one.samples): one for one in stops(told())}

    assert len(found) == 8
    for (rule, _), one in found.items():
        expected = 200 if "magnitude" in rule else 300
        assert (one.raw["step"], one.filtered["step"]) == (expected, expected)
        assert one.raw["spurious"] == one.filtered["spurious"] == 0.5


def test_distances_are_mean_absolute_differences_of_both_curves() -> None:
    found = distances(told(shift=-4), "purified")

    assert found["main"] == pytest.approx(4, abs=0.01)
    assert distances(told(), "accuracy")["test images: alone"] > 0.1


@pytest.mark.parametrize(
    ("measure", "value", "shown"),
    [("purified", 47.66, "47.7"), ("accuracy", -0.001, "0.00"), ("silhouette", 0.0844, "0.084")],
)
def test_a_value_is_written_with_as_many_digits_as_it_carries(
    measure: str, value: float, shown: str
) -> None:
    assert figure(measure, value) == shown
