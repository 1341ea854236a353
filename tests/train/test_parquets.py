"""Parquets with images: what others find in them, row group by row group."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shards import write_parquet
from tests.train.indexed import JPEG, PNG, opened, samples


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_a_parquet_is_read_as_pyarrow_reads_it(tmp_path: Path, row_group_size: int) -> None:
    columns = {
        "key": [f"k{row}" for row in range(7)],
        "image": pa.array([{"bytes": PNG + bytes([row]), "path": None} for row in range(7)]),
        "text": ["one", "", None, "four", "five", " ", "seven"],
        "tags": [["a", "b"], [], None, ["c"], ["d"], ["e"], [" "]],
    }
    write_parquet(tmp_path / "data" / "0.parquet", columns, row_group_size)

    data = opened(tmp_path / "data", chosen=1, tags=1)

    table = pq.read_table(tmp_path / "data" / "0.parquet").to_pylist()
    assert samples(data) == {
        row["key"]: (
            row["image"]["bytes"],
            [
                [text for text in [row["text"]] if text and text.strip()],
                [text for text in row["tags"] or [] if text.strip()],
            ],
        )
        for row in table
        if row["key"] not in ("k1", "k2")
    }
    assert data.left_out == {"caption_missing": 2}


def test_a_parquet_of_the_hub_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [PNG, JPEG], "caption": ["one", "two"]}
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "caption": datasets.Value("string")}
    )
    theirs = datasets.Dataset.from_dict(rows, features=features)
    (tmp_path / "data").mkdir()
    theirs.to_parquet(tmp_path / "data" / "0.parquet")

    found = samples(opened(tmp_path / "data"))

    assert list(found.values()) == [(one["image"]["bytes"], [[one["caption"]]]) for one in theirs]


def test_rows_whose_download_failed_are_left_out(tmp_path: Path) -> None:
    columns = {
        "key": ["a", "b"],
        "jpg": pa.array([None, JPEG], pa.binary()),
        "caption": ["one", "two"],
        "status": ["failed_to_download", "success"],
    }
    write_parquet(tmp_path / "data" / "0.parquet", columns)

    data = opened(tmp_path / "data")

    assert samples(data) == {"b": (JPEG, [["two"]])}
    assert data.left_out == {"download_failed": 1}


def test_a_row_group_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    columns = {"jpg": [JPEG] * 6, "caption": [f"caption {row}" * 50 for row in range(6)]}
    path = tmp_path / "data" / "0.parquet"
    write_parquet(path, columns, 3)
    at = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = bytes(20)
    path.write_bytes(bytes(content))

    data = opened(tmp_path / "data")

    assert samples(data).keys() == {"000000000", "000000001", "000000002"}
    assert data.left_out == {"metadata_unreadable": 3}
