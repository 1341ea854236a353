"""The report of a whole run: its numbers are the manifest's and the parquet's, each time anew."""

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from filters.decision import all_rules
from pipelines.commands import main
from pipelines.page import count
from pipelines.plan import restore_plan
from pipelines.report import render
from pipelines.statistics import NAME, edges, histograms, read_statistics
from pipelines.summary import summarise
from tests.outputs import files_of, manifest_of, rows_of, table_rows
from tests.shards import picture, write_shard


def summary_of(output: Path) -> dict[str, Any]:
    return summarise(read_statistics(output), manifest_of(output), restore_plan(output).run)


@pytest.fixture(scope="module")
def summary(filtered: Path) -> dict[str, Any]:
    return summary_of(filtered)


def test_the_account_is_the_manifests_and_the_decisions(
    filtered: Path, summary: dict[str, Any]
) -> None:
    manifest = manifest_of(filtered)
    reasons = Counter(row["reason"] for row in rows_of(filtered, "decisions"))

    assert summary["kept"] == manifest["kept"] == reasons.pop(None)
    assert summary["dropped"] == manifest["dropped"] == dict(reasons)
    assert summary["rows_in"] == manifest["rows_in"] == summary["kept"] + sum(reasons.values())


def test_the_rules_and_overlaps_are_those_of_the_decisions(
    filtered: Path, summary: dict[str, Any]
) -> None:
    names = [rule.name for rule in all_rules(restore_plan(filtered).run.recipe.rules)]
    masks = Counter(row["broken"] for row in rows_of(filtered, "decisions"))
    broken = {mask: [n for at, n in enumerate(names) if mask >> at & 1] for mask in masks}

    told = {tuple(row["rules"]): row["rows"] for row in summary["masks"]}

    assert told == {tuple(broken[mask]): rows for mask, rows in masks.items() if mask}
    for rule in summary["rules"]:
        of_rule = {mask: rows for mask, rows in masks.items() if rule["name"] in broken[mask]}
        assert rule["broken"] == sum(of_rule.values())
        assert rule["only"] == sum(n for mask, n in of_rule.items() if len(broken[mask]) == 1)
        assert rule["first"] == sum(n for m, n in of_rule.items() if broken[m][0] == rule["name"])


@pytest.mark.parametrize("column", histograms())
def test_a_histogram_is_of_the_parquets_values(
    filtered: Path, summary: dict[str, Any], column: str
) -> None:
    values = [row[column] for row in rows_of(filtered, "columns")]
    known = [value for value in values if value is not None]
    told, (_, bounds) = summary["histograms"].get(column), edges(column)

    if told is None:
        assert not known
        return
    both = [a + b for a, b in zip(told["kept"], told["dropped"], strict=True)]
    expected = [0] * (len(bounds) - 1)
    for value in known:
        expected[max(0, min(len(expected), sum(edge <= value for edge in bounds)) - 1)] += 1
    assert both == expected
    assert told["missing"] == len(values) - len(known)


def test_what_is_shared_is_what_the_tables_say(filtered: Path, summary: dict[str, Any]) -> None:
    tables = manifest_of(filtered)["tables"]
    for name in ("texts", "images"):
        points = summary["sharing"][name]
        counts = [number for _, _, number in table_rows(filtered, name)]

        assert sum(point["number"] for point in points) == tables[name]["distinct"]
        for point in points:
            shared = sum(point["from"] <= number <= point["to"] for number in counts)
            alone = tables[name]["distinct"] - tables[name]["shared"]
            assert point["number"] == (alone if point["to"] == 1 else shared)


def test_an_example_tells_what_explain_tells(
    filtered: Path, summary: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pair = summary["examples"]["token_count.too_short"][0]

    assert main(["explain", pair["uid"], "--from", str(filtered)]) == 0

    told = capsys.readouterr().out
    of_rules = told.partition("rules of recipe")[2].splitlines()
    for rule, value, verdict in pair["verdicts"]:
        line = next(line for line in of_rules if line.startswith(f"  {rule} "))
        assert line.endswith(verdict)
        assert (value or "unknown") in line
    assert re.search(rf"token_count +{pair['token_count']}\n", told)


def test_the_report_is_written_again_byte_for_byte(
    filtered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(filtered, output)
    shutil.rmtree(output / "report")

    assert main(["report", "--from", str(output)]) == 0

    assert files_of(output) == files_of(filtered)
    assert capsys.readouterr().out == f"report: {output}/report/index.html\n"


def test_a_run_without_statistics_is_told_how_to_get_them(
    filtered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(filtered, output)
    (output / NAME).unlink()

    assert main(["report", "--from", str(output)]) == 2

    assert capsys.readouterr().err == (
        f"altmill: {output} must hold a run's statistics, got no {NAME} there; run decide, which "
        "writes it in seconds\n"
    )


def test_a_rule_that_did_not_run_and_a_shard_far_from_the_others_are_warnings(
    tmp_path: Path,
) -> None:
    caption = "a photo of a shoe on the grass"
    for shard in range(6):
        pairs = [
            (f"{shard}-{at}", picture(300, 240), "no" if shard == 4 and at else f"{caption} {at}")
            for at in range(4)
        ]
        write_shard(tmp_path / "in" / str(shard), pairs)
    options = ["--set", "rules.images_per_text.max_inclusive=100", "--workers", "1"]
    paths = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["filter", *paths, *options]) == 0

    warnings = summary_of(tmp_path / "out")["warnings"]

    assert [warning.partition(":")[0] for warning in warnings] == [
        "nsfw_score did not run",
        "pdq_distance did not run",
        "Far from the others, which keep 100.0% of their rows, is shard 4 (25.0%).",
    ]


def test_a_copy_stands_beside_the_pair_that_stays(tmp_path: Path) -> None:
    small, large = picture(300, 240), picture(400, 320)
    pairs = [("a", small, "a photo of a shoe"), ("b", small, "quite another caption here")]
    write_shard(tmp_path / "in" / "0", [("c", large, "something else again"), *pairs])
    rules = ["--set", "rules.duplicate.same=image", "--workers", "1"]
    paths = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["filter", *paths, *rules]) == 0

    summary = summary_of(tmp_path / "out")

    captions = {key: caption for key, _, caption in pairs}
    copy = summary["examples"]["duplicate.copy"][0]
    stays = next(row for row in summary["examples"]["kept"] if row["key"] != "c")
    assert copy["beside"]["key"] == stays["key"] != copy["key"]
    assert copy["beside"]["caption"] == captions[stays["key"]]
    assert copy["beside"]["thumbnail"] == copy["thumbnail"] == stays["thumbnail"] is not None
    page = render(summary)
    assert f"In its place stays <bdi>{stays['key']}</bdi>" in page
    assert f'<td class="n" data-reason="duplicate.copy">{count(1)}</td>' in page
