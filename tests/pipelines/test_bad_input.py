"""Bad images and bad parquet end no run and lose no row."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from tests.outputs import expected_of, found_by, manifest_of, rows_of
from tests.plain import filter_plainly
from tests.shards import SHARED_DATA, write_parquet, write_tar


def run(source: Path, output: Path, *changes: str) -> None:
    """Run by a recipe without rules, so that every image is decoded."""
    recipe = output.with_name("bare.toml")
    recipe.write_text('name = "bare"\n')
    paths = ["--input", str(source), "--output", str(output), "--recipe", str(recipe)]
    changed = [part for change in changes for part in ("--set", change)]
    assert main(["filter", *paths, "--workers", "1", *changed]) == 0


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared/data is absent")
@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_no_hostile_image_ends_a_run(kind: str, tmp_path: Path) -> None:
    files = sorted((SHARED_DATA / "badimg" / "files").iterdir())
    images = {path.name.partition(".")[0]: path.read_bytes() for path in files}
    columns: dict[str, Any] = {"jpg": pa.array(images.values(), pa.binary())}
    columns |= {"key": list(images), "caption": [f"a photo of {key}" for key in images]}
    if kind == "parquet":
        write_parquet(tmp_path / "in" / "0.parquet", columns)
    else:
        write_tar(tmp_path / "in" / "0.tar", [(f"{k}.jpg", data) for k, data in images.items()])
        write_parquet(tmp_path / "in" / "0.parquet", {n: columns[n] for n in ("key", "caption")})

    run(tmp_path / "in", tmp_path / "out", "materialise=true")

    expected = expected_of(filter_plainly(tmp_path / "in", {}))
    assert expected["funnel"]["rows_in"] == len(files) > 1600
    assert found_by(tmp_path / "out") == expected


@pytest.mark.parametrize("name", ["zero", "none"])
def test_an_input_without_rows_is_filtered_to_nothing(name: str, tmp_path: Path) -> None:
    if name == "zero":
        write_parquet(tmp_path / "in" / "0.parquet", {"caption": pa.array([], pa.string())})
    else:
        write_tar(tmp_path / "in" / "0.tar", [])

    run(tmp_path / "in", tmp_path / "out")

    assert found_by(tmp_path / "out") == expected_of(filter_plainly(tmp_path / "in", {}))
    assert (tmp_path / "out" / "report" / "index.html").is_file()


def test_a_row_group_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "in" / "0.parquet"
    columns = {"caption": [f"a photo of shoe {n}" for n in range(9)], "url": list("abcdefghi")}
    write_parquet(path, columns, row_group_size=3)
    at = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + b"\xff" * 20 + whole[at + 20 :])

    run(tmp_path / "in", tmp_path / "out")

    unreadable = "intact.metadata_unreadable"
    expected = [(f"{n:09d}", unreadable if 3 <= n < 6 else None) for n in range(9)]
    decisions = rows_of(tmp_path / "out", "decisions")
    assert [(row["key"], row["reason"]) for row in decisions] == expected
    assert [len(s["damage"]) for s in manifest_of(tmp_path / "out")["shards"]] == [1]
