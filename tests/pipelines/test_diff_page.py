"""The page of a diff: its numbers, harmless text, nothing from outside, no wider than a phone."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.diff import compare_runs
from pipelines.diff_page import render, write_diff
from tests.browser import CHROMIUM, browsing
from tests.pipelines.test_diff import HOSTILE, filter_pairs


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("diff")
    texts = {f"{n}": f"a photo of shoe number {n}" for n in range(12)} | {"x": HOSTILE}
    a = filter_pairs(folder, "a", texts)
    b = filter_pairs(folder, "b", texts, "--set", "rules.token_count.max_inclusive=5")
    return compare_runs(a, b)


def test_the_page_has_the_numbers(told: dict[str, Any]) -> None:
    page = render(told)

    shown = dict(re.findall(r'data-fate="(\w+)">([\d\u202f]+)<', page))
    assert {name: int(n.replace("\u202f", "")) for name, n in shown.items()} == {
        name: told["pairs"][name] for name in shown
    }
    assert shown["gone"] == "13"
    assert page.count("<svg") == len(told["distributions"])


def test_captions_are_text(told: dict[str, Any]) -> None:
    page = render(told)

    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "http" not in re.sub(r'xmlns\S*="[^"]*"|http-equiv', "", page)


def test_the_json_says_the_same_without_pictures(told: dict[str, Any], tmp_path: Path) -> None:
    page = write_diff(told, tmp_path / "d")

    stored = json.loads((tmp_path / "d" / "diff.json").read_text())
    assert page == tmp_path / "d" / "index.html"
    assert stored["pairs"] == told["pairs"]
    assert stored["funnel"] == told["funnel"]
    assert "data:image" not in json.dumps(stored)
    assert "data:image" in page.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it_at_two_widths_and_asks_nothing(
    told: dict[str, Any], tmp_path: Path
) -> None:
    page = write_diff(told, tmp_path / "d")

    with browsing(tmp_path / "profile") as browser:
        for width in (1280, 390):
            browser.open(page, width)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("document.querySelectorAll('section').length") == 5
            assert browser.run("document.title.includes('owned')") is False
        assert browser.console == []
        assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}
