"""Every check of an experiment can fail, and the reading says what the intervals allow."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.train.experiments.told import run, told
from train.experiments.evidence.judge import captions, checks, difference, differences, reading

Told = dict[str, Any]


def test_all_checks_pass_where_all_is_well() -> None:
    found = checks(told())

    assert len(found) == 8
    assert all(check["passed"] for check in found)


def more_noise(one: Told) -> None:
    one["captions"][1]["noise"]["true"] = 0.35


def fewer_partners(one: Told) -> None:
    one["captions"][0]["noise"]["partner"] = 0.35


def other_steps(one: Told) -> None:
    one["runs"][3]["steps"] = 99


def other_tokens(one: Told) -> None:
    one["runs"][3]["vocabulary"] = "abd"


def strong_raw(one: Told) -> None:
    one["runs"] = told(raw=0.71)["runs"]


def pure_raw(one: Told) -> None:
    for each in one["runs"]:
        each["metrics"]["seen"]["spurious_margin"] = 0.2


def blind_filter(one: Told) -> None:
    one["captions"][2]["auc"]["noisy"] = 0.9


def late_gain(one: Told) -> None:
    one["curves"][1]["accuracy"][-1]["seen"] = 0.6


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (more_noise, "Raw captions are wrong as often"),
        (fewer_partners, "Raw captions are wrong as often"),
        (other_steps, "All arms have the same steps"),
        (other_tokens, "All arms have the same tokens"),
        (strong_raw, "Clean captions beat raw ones by 20 points"),
        (pure_raw, "Raw captions teach the spurious feature"),
        (blind_filter, "The filter model tells clean captions"),
        (late_gain, "No arm gains 5 points"),
    ],
)
def test_a_check_fails_and_the_others_do_not(spoil: Callable[[Told], None], name: str) -> None:
    spoiled = told()
    spoil(spoiled)

    failed = [check["name"] for check in checks(spoiled) if not check["passed"]]

    assert len(failed) == 1
    assert failed[0].startswith(name)


def test_differences_are_paired_by_seed() -> None:
    one = told()
    one["runs"].append(run("raw", 7, 0.9))  # no other arm has this seed

    gain = difference(one, "a", ("capfilt", "raw"), "seen", "acc1")

    assert gain.seeds == 3
    assert gain.mean == pytest.approx(0.42)
    assert gain.high - gain.low == pytest.approx(0, abs=1e-9)  # as both rise with the seed alike


def test_only_arms_that_were_run_are_compared() -> None:
    compared = {one["arms"] for one in differences(told())}

    assert ("recaptioned", "raw") in compared
    assert ("threshold-mix", "itm") not in compared


def test_an_ablation_counts_in_no_mean() -> None:
    one = told()
    one["runs"].append(run("raw", 0, 0.99, variant="more", factor="steps", steps=7))

    assert all(check["passed"] for check in checks(one))


def test_the_reading_says_who_wins_and_who_loses() -> None:
    sentences = reading(told(recaptioned=0.5))

    assert any("recaptioned against raw: wins on seen" in one for one in sentences)
    assert any("recaptioned against itm: loses on seen" in one for one in sentences)
    assert all("-10.0 points" in one for one in sentences if "recaptioned against itm" in one)


def test_a_difference_that_chance_could_make_is_called_so() -> None:
    one = told()
    for each in one["runs"]:
        if each["arm"] == "itm":
            each["metrics"]["seen"]["acc1"] = 0.7 + (-1) ** each["seed"] * 0.2

    assert any("within chance on seen" in sentence for sentence in reading(one))


def test_a_caption_figure_that_is_missing_is_left_out() -> None:
    [one] = captions(told())

    assert one["synthetic precision"].mean == pytest.approx(0.9)
    assert one["chosen precision"].seeds == 0
