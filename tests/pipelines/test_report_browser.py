"""The report in a browser: it draws, sorts, recounts and opens, in silence and alone."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import main
from pipelines.report import write_report
from tests.browser import CHROMIUM, Page, browsing
from tests.outputs import manifest_of
from tests.pipelines.test_report import example_summary

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report of captions that attack it."""
    return write_report(example_summary(), tmp_path_factory.mktemp("hostile"))


def number(text: str) -> int:
    return int(re.sub(r"\D", "", text))


def move(page: Page, rule: str, op: str, value: str) -> None:
    """Move a slider to a value, as keys and pointers do."""
    assert page.run(f"""(() => {{
        const label = (row) => row.querySelector("th").textContent + row.cells[1].textContent[0];
        const row = [...document.querySelectorAll(".dials tbody tr")]
          .find((row) => row.querySelector("input") && label(row) === "{rule}{op}");
        const dial = row.querySelector("input");
        for (let at = 0; at <= Number(dial.max); at += 1) {{
          dial.value = at;
          dial.dispatchEvent(new Event("input"));
          if (row.querySelector("output").textContent === "{value}") return true;
        }}
        return false;
    }})()""")


def told(page: Page) -> dict[str, Any]:
    """Return what the page says that the sliders would do."""
    rows: dict[str, str] = page.run("""Object.fromEntries(
        [...document.querySelectorAll("[data-then]")]
        .map((row) => [row.dataset.then, row.lastElementChild.textContent]))""")
    kept = page.run("document.getElementById('kept-then').textContent")
    return {name: number(rows) for name, rows in rows.items()} | {"kept": number(kept)}


@pytest.mark.parametrize("width_px", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_full_of_attacks_opens_in_silence_and_asks_nobody(
    page: Page, hostile: Path, width_px: int, dark: bool
) -> None:
    page.console.clear()
    page.requests.clear()

    page.open(hostile, width_px, dark=dark)

    assert page.console == []
    assert [url for url in page.requests if not url.startswith("data:")] == [hostile.as_uri()]
    assert page.run("document.title").startswith("align: ")
    assert page.run("document.querySelectorAll('script').length") == 3
    assert page.run("document.querySelectorAll('[data-chart] svg').length") == page.run(
        "document.querySelectorAll('[data-chart]').length"
    )
    assert page.run("document.documentElement.scrollWidth") <= width_px


@pytest.mark.parametrize("width_px", WIDTHS)
def test_a_table_sorts_by_a_click(page: Page, hostile: Path, width_px: int) -> None:
    page.open(hostile, width_px)
    shares = """[...document.querySelectorAll("#shards tbody tr")]
        .map((row) => Number(row.cells[3].dataset.sort))"""
    click = "document.querySelectorAll('#shards th button')[3].click()"

    page.run(click)
    down = page.run(shares)
    page.run(click)
    up = page.run(shares)

    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert up != down


def test_a_link_opens_the_full_story_of_a_pair_as_text(page: Page, hostile: Path) -> None:
    page.open(hostile)
    link = "document.querySelectorAll('#examples-0 .more')[5]"
    page.run("document.getElementById('examples-0').open = true")

    page.run(f"{link}.click()")
    page.wait_for("document.querySelector('.story:popover-open')")

    story = page.run("document.querySelector('.story:popover-open').textContent")
    assert "</script><script>document.title='owned'</script>" in story
    assert "⟨U+202E⟩en<b>" in story
    assert "<b>deother" in story
    assert "python -m pipelines explain" in story
    page.run("document.querySelector('.story:popover-open .close button').click()")
    page.wait_for("!document.querySelector('.story:popover-open')")
    assert page.console == []


@pytest.fixture(scope="module")
def report(filtered: Path) -> Path:
    return filtered / "report" / "index.html"


@pytest.mark.parametrize("width_px", WIDTHS)
def test_sliders_that_have_not_moved_tell_the_run(
    page: Page, filtered: Path, report: Path, width_px: int
) -> None:
    page.open(report, width_px)
    page.wait_for("document.querySelector('.dials tr')")

    manifest, found = manifest_of(filtered), told(page)

    fixed = sum(rows for name, rows in manifest["dropped"].items() if name.startswith("intact."))
    assert found.pop("intact") == fixed
    assert found.pop("kept") == manifest["kept"]
    assert {name: rows for name, rows in found.items() if rows} == {
        name: rows for name, rows in manifest["dropped"].items() if not name.startswith("intact.")
    }
    assert page.run("document.getElementById('lines').hidden")


@pytest.mark.parametrize(
    "moves",
    [
        [("token_count", "≥", "1")],
        [("token_count", "≥", "6"), ("token_count", "≤", "9"), ("language", "<", "0")],
        [("images_per_text", "≤", "2"), ("shorter_side", ">", "224"), ("nsfw_score", "≤", "0.1")],
    ],
    ids=str,
)
def test_the_printed_command_gives_the_numbers_that_the_sliders_told(
    page: Page, filtered: Path, report: Path, tmp_path: Path, moves: list[tuple[str, str, str]]
) -> None:
    page.open(report)
    for rule, op, value in moves:
        move(page, rule, op, value)
    found = told(page)
    command = page.run("document.getElementById('decide').textContent").split(" ")
    caveats = page.run("document.getElementById('caveats').textContent")

    assert command[:3] == ["python", "-m", "pipelines"]
    assert command[command.index("--output") + 1] == f"{filtered}-what-if"
    command[command.index("--output") + 1] = str(tmp_path / "out")
    assert main([*command[3:], "--workers", "1"]) == 0

    decided = manifest_of(tmp_path / "out")
    fixed = sum(rows for name, rows in decided["dropped"].items() if name.startswith("intact."))
    assert found.pop("intact") == fixed
    assert found.pop("kept") == decided["kept"]
    assert {name: rows for name, rows in found.items() if rows} == {
        name: rows for name, rows in decided["dropped"].items() if not name.startswith("intact.")
    }
    undecoded = decided["kept_unchecked"]
    assert (f"{undecoded} of the kept rows were never decoded" in caveats) == bool(undecoded)


def test_the_printed_lines_are_a_recipe_and_reset_takes_them_back(page: Page, report: Path) -> None:
    page.open(report)
    move(page, "token_count", "≥", "4")
    move(page, "token_count", "≤", "18")
    move(page, "language", "<", "0.3")

    assert page.run("document.getElementById('toml').textContent") == (
        "[rules.token_count]\nmin_inclusive = 4\nmax_inclusive = 18\n\n"
        "[rules.language]\nmax_other_score_exclusive = 0.3"
    )
    page.run("document.getElementById('reset').click()")
    assert page.run("document.getElementById('kept-change').textContent") == "as in this run"
    assert page.run("document.getElementById('lines').hidden")
