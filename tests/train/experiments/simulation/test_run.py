"""The command runs the experiment from end to end, and its page opens without a network."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

import pyarrow.parquet as pq

from filters.rule import RecipeError
from tests.browser import CHROMIUM, shown_in_silence
from train.__main__ import main
from train.experiments.simulation.run import plan, variants
from train.experiments.simulation.setting import Setting, read_setting
from train.experiments.simulation.trial import (
    DENOISED,
    FILTERED,
    FRESH_FILTERED,
    FRESH_RAW,
    NOISY,
    RAW,
    Trial,
)

TINY = [
    *("num_inputs=60", "num_features=20", "num_neurons=30", "num_raw=200", "num_clean=50"),
    *("num_test=60", "batch=50", "steps=40", "measured_every=10", "caption_steps=20"),
    *("learning_rate=0.02", "initial_deviation=0.01", "temperature=10.0"),
    "spurious=[0.0,0.3,0.5]",
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command at a tiny size, and return its folder."""
    out = tmp_path_factory.mktemp("simulation")
    changes = [word for change in TINY for word in ("--set", change)]
    assert main(["simulate", "--out", str(out), "--trials", "2", *changes]) == 0
    return out


def test_all_arms_of_all_trials_are_measured_at_all_steps(out: Path) -> None:
    rows = pq.read_table(out / "trials.parquet").to_pylist()

    main_rows = [row for row in rows if row["variant"] == "main"]
    assert {row["arm"] for row in main_rows} == {
        *(RAW, FILTERED, NOISY, DENOISED, FRESH_RAW, FRESH_FILTERED)
    }
    assert len(main_rows) == 2 * 6 * 3 * 4  # trials, arms, shares, steps
    assert {row["step"] for row in rows if row["variant"] == "longer"} == set(range(10, 81, 10))
    assert {row["variant"] for row in rows} == {"main", *variants(read_setting(TINY))}


def test_the_figures_of_the_summary_are_those_of_the_rows(out: Path) -> None:
    told = json.loads((out / "simulation.json").read_text())
    rows = pq.read_table(out / "trials.parquet").to_pylist()

    assert told["setting"]["num_inputs"] == 60
    stops = {s["trial"]: s["step"] for s in told["stops"] if s["variant"] == "main"}
    for trial, stop in stops.items():
        aligned = {
            row["step"]: row["magnitude"]
            for row in rows
            if (row["variant"], row["trial"], row["arm"], row["spurious"])
            == ("main", trial, RAW, 0)
        }
        assert aligned[stop] == max(aligned.values())
    values = {
        (arm, trial): row["purified"]
        for row in rows
        for arm, trial in [(row["arm"], row["trial"])]
        if row["variant"] == "main" and row["spurious"] == 0.5 and row["step"] == stops[trial]
    }
    key = {"variant": "main", "spurious": 0.5, "measure": "purified"}
    for table, arm, expected in (
        ("arms", RAW, sum(values[RAW, t] for t in (0, 1)) / 2),
        ("gains", FILTERED, sum(values[FILTERED, t] - values[RAW, t] for t in (0, 1)) / 2),
        (
            "gains",
            FRESH_FILTERED,
            sum(values[FRESH_FILTERED, t] - values[FRESH_RAW, t] for t in (0, 1)) / 2,
        ),
    ):
        found = [row for row in told[table] if (key | {"arm": arm}).items() <= row.items()]
        assert [row["mean"] for row in found] == [pytest.approx(expected)]
        assert found[0]["low"] <= found[0]["mean"] <= found[0]["high"]


def test_a_trial_comes_out_the_same_again_and_another_seed_does_not() -> None:
    few = read_setting([*TINY, "steps=20"])

    first, again, other = (Trial(few, seed, 0, "cpu").run((0.0, 0.5)).rows for seed in (0, 0, 1))

    assert first == again
    assert first != other


def test_the_controls_do_not_disturb_what_comes_before_them() -> None:
    few = read_setting([*TINY, "steps=20"])

    without, having = (Trial(few, 0, 0, "cpu").run(controls) for controls in ((), (0.0, 0.5)))

    assert having.rows[: len(without.rows)] == without.rows
    assert [row["spurious"] for row in having.rows[len(without.rows) :]] == [0.0, 0.5] * 8


def test_every_sweep_changes_one_thing() -> None:
    setting = Setting()
    few = {"spurious"}

    for name, varied in variants(setting).items():
        changed = {
            key for key in Setting.__slots__ if getattr(varied, key) != getattr(setting, key)
        }
        assert len(changed - few) == 1, name
        assert varied.spurious == (0.0, 0.3, 0.5)
    jobs = plan(setting, 10, 0, "cpu")
    assert sum(job.variant == "main" for job in jobs) == 10
    assert sum(bool(job.controls) for job in jobs if job.variant == "main") == 4


def test_the_page_shows_every_chart_and_says_what_the_figures_say(out: Path) -> None:
    text = (out / "report" / "index.html").read_text(encoding="utf-8")

    assert text.count("<svg") == 4 + 4 + 4 * 3 + 1 + 2
    assert "paired difference" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text)
    assert "<script" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_opens_the_page_in_silence_and_asks_nobody(out: Path, tmp_path: Path) -> None:

    shown = shown_in_silence(out / "report" / "index.html", tmp_path)

    assert "What captions name" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("num_neurons=0", "num_neurons must be 1 or more, got 0"),
        ("num_features=33", "num_features must be a multiple of 5, 20 or more, got 33"),
        ("num_inputs=49", "num_inputs must be at least num_features, 50, got 49"),
        ("rate=0.6", "rate must be from 0.05 to 0.5, got 0.6"),
        ("learning_rate=0.0", "learning_rate must be above 0, got 0.0"),
        ("batch=1001", "batch must be from 2 to num_clean, 1000, got 1001"),
        ("spurious=[0.1,0.5]", "spurious must be growing shares from 0 to below 1, the first 0"),
        ("spurious=[0.0,0.5,0.3]", "spurious must be growing shares"),
        ("num_partners=50", "num_partners must be from 1 to 49, got 50"),
        ("measured_every=1000", "measured_every must be at most steps, 320, got 1000"),
        ("unit=gelu", "unit must be relu or shifted, got 'gelu'"),
        ("neurons=3", "neurons must be a known key"),
    ],
)
def test_a_bad_setting_is_refused_with_its_reason(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        read_setting([change])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trials", "1"], "--trials must be 2 or more, got 1"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["--device", "warp"], "--device must be one that torch has, got warp"),
        (["--set", "rate=2.0"], "rate must be from 0.05 to 0.5, got 2.0"),
    ],
)
def test_a_bad_option_ends_with_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["simulate", "--out", str(tmp_path / "out"), *options])

    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
