"""The table of shards: the manifest's numbers, in the page, for machines, and which stand out."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from pipelines.shard_table import judge_shards
from tests.outputs import files_of, manifest_of, rows_of
from tests.shards import picture, write_shard


def told(output: Path) -> dict[str, Any]:
    return json.loads((output / "report" / "shards.json").read_text())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    whole = [(f"{key:04d}", picture(201, 220), f"a photo of shoe {key}") for key in range(3)]
    write_shard(tmp_path / "in" / "a" / "0", whole)
    write_shard(tmp_path / "in" / "1", [*whole[:1], ("b", None, "no image"), ("c", b"", "empty")])
    write_shard(tmp_path / "in" / "2", [])
    options = ("--output", str(tmp_path / "out"), "--workers", "1")
    assert main(["filter", "--input", str(tmp_path / "in"), *options]) == 0
    return tmp_path / "out"


def test_the_files_have_the_numbers_of_the_decisions_and_of_the_input(output: Path) -> None:
    decided: dict[str, Counter[str]] = {}
    for row in rows_of(output, "decisions"):
        decided.setdefault(row["shard"], Counter())[row["reason"] or "kept"] += 1
    source = Path(manifest_of(output)["input"])

    rows = pq.read_table(output / "report" / "shards.parquet").to_pylist()

    assert [row["shard"] for row in rows] == ["1", "2", "a/0"]
    for row in rows:
        counted = decided.get(row["shard"], Counter())
        parts = (source / f"{row['shard']}{end}" for end in (".tar", ".parquet"))
        assert row["rows"] == counted.total()
        assert row["kept"] == counted["kept"]
        assert row["bytes"] == sum(path.stat().st_size for path in parts)
        assert {name: n for name, n in row.items() if "." in name and n} == {
            name: n for name, n in counted.items() if name != "kept"
        }
    assert [row["share"] for row in rows] == [pytest.approx(1 / 3), None, 1.0]


def test_the_columns_and_sums_are_those_of_the_manifest(filtered: Path) -> None:
    manifest = manifest_of(filtered)

    table = pq.read_table(filtered / "report" / "shards.parquet")
    sums = {name: sum(table[name].to_pylist()) for name in manifest["dropped"]}

    assert sums == manifest["dropped"]
    assert sum(table["kept"].to_pylist()) == manifest["kept"]
    assert sum(table["rows"].to_pylist()) == manifest["rows_in"]


def test_json_parquet_and_page_say_the_same(filtered: Path) -> None:
    stored = pq.read_table(filtered / "report" / "shards.parquet").to_pylist()
    stated = told(filtered)["shards"]
    page = (filtered / "report" / "index.html").read_text()
    table = page[page.index('id="shards"') :].partition("</table>")[0]

    for row, other in zip(stored, stated, strict=True):
        dropped = other.pop("dropped")
        assert row | {name: dropped.get(name, 0) for name in row if "." in name} == row
        assert {name: row[name] for name in other} == other
    number = r'<td class="n">([\d\u202f]+)</td>'
    shown = re.findall(rf'<tr[^>]*><td data-sort="([^"]+)">.*?</td>{number}{number}', table)
    shown = [(name, *(int(n.replace("\u202f", "")) for n in rest)) for name, *rest in shown]
    assert sorted(shown) == [(row["shard"], row["rows"], row["kept"]) for row in stored]


def test_materialised_shards_are_linked(output: Path) -> None:
    assert {row["stats"] for row in told(output)["shards"]} == {None}
    before = files_of(output)

    assert main(["materialise", "--from", str(output), "--workers", "1"]) == 0

    links = [row["stats"] for row in told(output)["shards"]]
    assert links == ["shards/1_stats.json", "shards/2_stats.json", "shards/a/0_stats.json"]
    kept = [json.loads((output / link).read_text())["count"] for link in links]
    assert kept == [row["kept"] for row in told(output)["shards"]]
    after = files_of(output)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"report/shards.json", "report/shards.parquet"}


def test_the_report_writes_them_again(output: Path) -> None:
    before = files_of(output / "report")
    for name in ("shards.json", "shards.parquet"):
        (output / "report" / name).unlink()

    main(["report", "--from", str(output)])

    assert (
        files_of(output / "report").items()
        >= {name: before[name] for name in ("shards.json", "shards.parquet")}.items()
    )


def test_a_shard_stands_out_beyond_5_2_deviations_from_the_median() -> None:
    def table(*kept: int) -> list[bool]:
        rows = [{"shard": str(n), "rows": 100, "kept": n} for n in kept]
        return [row["outlier"] for row in judge_shards(rows).rows]

    assert table(50, 51, 52, 53, 54, 60) == [False] * 6
    assert table(50, 51, 52, 53, 54, 61) == [*[False] * 5, True]
    assert table(70, 70, 70, 71) == [False, False, False, True]
    assert judge_shards([]).num_outliers == 0
    assert judge_shards([{"shard": "0", "rows": 0, "kept": 0}]).rows[0]["share"] is None
