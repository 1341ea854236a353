"""Readers: what cannot be read is named, and read again it is named again."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.shards import picture, write_parquet  # noqa: E402
from tests.train.corpora import opened, pairs, write_parquets, write_tars  # noqa: E402
from train.images import BadSampleError  # noqa: E402
from train.index import Data  # noqa: E402
from train.readers import UnitReader  # noqa: E402

JPEG = picture(24, 24, "JPEG")


def reasons(data: Data) -> list[str]:
    """Return the key of each row, or why it cannot be read, and close what was open."""
    found = []
    for unit in data.units:
        reader = UnitReader(unit)
        for row in range(unit.rows):
            try:
                found.append(reader.read(row).key)
            except BadSampleError as reason:
                found.append(str(reason))
        reader.close()
    return found


@pytest.mark.parametrize("writer", [write_tars, write_parquets])
def test_rows_are_read_in_any_order(tmp_path: Path, writer: object) -> None:
    data = opened(writer(tmp_path / "data", (9,)))  # type: ignore[operator]
    expected = {key: (image, [[caption]]) for key, image, caption in pairs((9,))[0]}

    found = {}
    for unit in reversed(data.units):
        reader = UnitReader(unit)
        for row in reversed(range(unit.rows)):
            key, image, texts = reader.read(row)
            found[key] = (image, texts)
        reader.close()

    assert found == expected


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    images = pa.array([JPEG, None, b""], pa.binary())
    columns = {"key": ["a", "b", "c"], "jpg": images, "caption": ["x", "y", "z"]}
    write_parquet(tmp_path / "data" / "0.parquet", columns)

    assert reasons(opened(tmp_path / "data")) == ["a", "image_missing", "image_missing"]


def test_images_of_a_broken_row_group_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data" / "0.parquet"
    columns = {"key": ["a", "b"], "jpg": [JPEG * 99, JPEG], "caption": ["x", "y"]}
    write_parquet(path, columns, 1)
    at = pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = bytes(20)
    path.write_bytes(bytes(content))

    assert reasons(opened(tmp_path / "data")) == ["shard_unreadable", "b"]


@pytest.mark.parametrize("writer", [write_tars, write_parquets])
def test_a_shard_that_is_not_what_was_indexed_is_named(tmp_path: Path, writer: object) -> None:
    source = writer(tmp_path / "data", (2, 2))  # type: ignore[operator]
    data = opened(source)
    first, second = sorted(source.iterdir())
    first.unlink()
    second.touch()

    assert reasons(data) == ["shard_missing"] * 2 + ["shard_changed"] * 2
