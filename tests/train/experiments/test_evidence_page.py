"""The page of an experiment shows what came out, escapes names, and asks nobody."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, shown_in_silence
from tests.train.experiments.told import run, told
from train.experiments.evidence.page import markdown, write_page


def test_the_page_shows_figures_checks_and_charts(tmp_path: Path) -> None:
    text = write_page(told(), tmp_path).read_text(encoding="utf-8")

    assert text.count("<svg") == 2 + 5 + 5 + 1  # accuracy, differences, two curves an arm, a map
    for shown in ("31.0", "30.0 to", "recaptioned", "passed", "Threats", "0.970"):
        assert shown in text
    assert "checks failed" not in text
    assert "40% &lt;noise&gt;" in text
    assert "<b>made" not in text
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text)


def test_a_check_that_failed_is_seen_at_the_top(tmp_path: Path) -> None:
    text = write_page(told(raw=0.9), tmp_path).read_text(encoding="utf-8")

    assert "1 of 8 checks failed" in text


def test_what_is_missing_is_a_dash_and_one_seed_has_no_interval(tmp_path: Path) -> None:
    one = told(raw=None)
    one["runs"] = [each for each in one["runs"] if each["seed"] == 0]
    one["captions"], one["maps"] = [], {}

    text = write_page(one, tmp_path).read_text(encoding="utf-8")

    assert "No arm of this grid has captions written." in text
    assert "nan" not in text.lower()


def test_an_ablation_stands_beside_the_arm_without_the_change(tmp_path: Path) -> None:
    one = told()
    one["runs"].append(run("raw", 0, 0.44, variant="<half>", factor="steps", steps=50))

    text = write_page(one, tmp_path).read_text(encoding="utf-8")

    assert "&lt;half&gt;" in text
    assert '<td class="n">44.0<small>30.0</small></td>' in text


def of_images() -> dict[str, Any]:
    """Return an experiment on pictures that were found: one group, and no colours."""
    one = told()
    one["grid"]["images"] = "<i>photos"
    for each in one["runs"]:
        del each["metrics"]["held-out"]
    for curve in one["curves"]:
        curve["accuracy"] = [{"step": p["step"], "seen": p["seen"]} for p in curve["accuracy"]]
    one["maps"] = {"raw": [{"x": 0.0, "y": at, "label": name} for at, name in enumerate("ab")]}
    return one


def test_pictures_that_were_found_have_classes_and_no_colours(tmp_path: Path) -> None:
    text = write_page(of_images(), tmp_path).read_text(encoding="utf-8").partition("</style>")[2]

    assert "Top-1 of the classes of <bdi>&lt;i&gt;photos</bdi>" in text
    for absent in ("held-out", "48 pairs", "Colour<", "the colour and the shape", "nan"):
        assert absent not in text
    assert markdown(of_images()).splitlines()[:2] == [
        "| learnt from S_h and | seen | spurious / true margin |",
        "|---|---|---|",
    ]


def test_the_table_of_the_readme_is_that_of_the_first_cell() -> None:
    lines = markdown(told()).splitlines()

    assert len(lines) == 2 + 5
    assert lines[2].startswith("| raw: S_w as it is | 31.0 (28.5 to 33.5) | 11.0 (8.5 to 13.5) |")
    assert lines[2].endswith("| 0.250 / 0.300 |")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it_in_silence_and_asks_nobody(tmp_path: Path) -> None:
    path = write_page(told(), tmp_path)

    shown = shown_in_silence(path, tmp_path)

    assert "What captions teach a model" in shown
