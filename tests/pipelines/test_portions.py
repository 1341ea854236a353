"""A list of URLs is cut into shards, and every row is in one."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.inputs import find_shards
from pipelines.portions import Portion, cut, read_portion
from tests.shards import write_parquet


def portions_of(folder: Path, rows: int) -> list[Portion]:
    return cut(find_shards(str(folder), {}, folder / "out", captions=False)[1], rows)


@pytest.mark.parametrize("group", [1, 3, 7, 100])
@pytest.mark.parametrize("rows", [1, 4, 10, 11, 1000])
def test_every_row_is_in_one_portion(rows: int, group: int, tmp_path: Path) -> None:
    urls = [f"http://e.example/{n}" for n in range(21)]
    write_parquet(tmp_path / "a.parquet", {"url": urls[:11]}, row_group_size=group)
    write_parquet(tmp_path / "b.parquet", {"url": urls[11:11]})
    write_parquet(tmp_path / "c.parquet", {"url": urls[11:]}, row_group_size=group)

    portions = portions_of(tmp_path, rows)

    assert [p.name for p in portions] == [f"{n:05d}" for n in range(len(portions))]
    read = [read_portion(portion)["url"].to_pylist() for portion in portions]
    assert [len(part) for part in read] == [portion.rows for portion in portions]
    assert max(map(len, read)) <= rows
    assert [url for part in read for url in part] == urls


def test_columns_keep_their_types_and_get_img2dataset_s_order(tmp_path: Path) -> None:
    columns = {
        "URL": ["http://e.example/"],
        "TEXT": pa.array(["a"]).dictionary_encode(),
        "similarity": pa.array([0.5], pa.float32()),
        "status": ["seen"],
        "boxes": [[1, 2]],
        "page": pa.array([b"caf\xe9"], pa.binary()).view(pa.string()),
    }
    write_parquet(tmp_path / "a.parquet", columns)

    table = read_portion(portions_of(tmp_path, 10)[0])

    assert list(table.to_pylist()[0].items()) == [
        ("similarity", 0.5),
        ("input_status", "seen"),
        ("boxes", [1, 2]),
        ("page", "caf\ufffd"),
        ("caption", "a"),
        ("url", "http://e.example/"),
    ]
    assert table.schema.field("similarity").type == pa.float32()
    assert table.schema.field("caption").type == pa.string()


def test_names_of_shards_grow_with_their_number(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"url": ["http://e.example/"] * 100_001})

    names = [portion.name for portion in portions_of(tmp_path, 1)]

    assert (names[0], names[-1]) == ("000000", "100000")
