"""Storage: a file is there whole or not at all, and the same content has the same bytes."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.storage import ipc_writer, join_parts, parquet_writer, read_ipc
from recaption.files import read_json, replacing, write_json, write_text

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9
)
SCHEMA = pa.schema([("name", pa.string()), ("count", pa.int64())])
PAIR = np.dtype("u8,u8")


def batch(*names: str) -> pa.RecordBatch:
    return pa.record_batch([[*names], [*range(len(names))]], schema=SCHEMA)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"

    with replacing(path) as temporary:
        temporary.write_text("new")
        during = (path.exists(), temporary.parent, temporary.suffix, temporary.name[0])

    assert during == (False, path.parent, ".tmp", ".")
    assert below(tmp_path) == ["deep", "deep/a.txt"]
    assert path.read_text() == "new"


@pytest.mark.parametrize("begun", [True, False])
def test_an_error_leaves_what_was_there(begun: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            if begun:
                temporary.write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert below(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["a" * 255, "\u72ac" * 85])
def test_a_name_may_be_as_long_as_any(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "text")

    assert below(tmp_path) == [name]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert first != second
    assert path.read_text() == "first"  # it ended last


@given(value=JSON)
def test_json_comes_back(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"

    write_json(path, value)

    assert read_json(path) == value


def test_json_is_written_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "\u72ac", "a": [1]})

    text = (tmp_path / "a.json").read_text(encoding="utf-8")

    assert text == '{\n "b": "\u72ac",\n "a": [\n  1\n ]\n}\n'


def test_a_written_batch_is_a_row_group(tmp_path: Path) -> None:
    path = tmp_path / "a" / "0.parquet"

    with parquet_writer(path, SCHEMA) as sink:
        for part in (batch("a", "b"), batch("c")):
            sink.write_batch(part)

    read = pq.ParquetFile(path)
    groups = [read.metadata.row_group(i) for i in range(read.num_row_groups)]
    assert [group.num_rows for group in groups] == [2, 1]
    assert {group.column(0).compression for group in groups} == {"ZSTD"}
    assert read.read() == pa.Table.from_batches([batch("a", "b"), batch("c")])


@pytest.mark.parametrize("writer", [parquet_writer, ipc_writer])
def test_the_same_rows_have_the_same_bytes(writer: Any, tmp_path: Path) -> None:
    for name in ("0", "1"):
        with writer(tmp_path / name, SCHEMA) as sink:
            sink.write_batch(batch(*"abc" * 100))

    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


@pytest.mark.parametrize("writer", [parquet_writer, ipc_writer])
def test_an_error_while_writing_leaves_nothing(writer: Any, tmp_path: Path) -> None:
    def fail() -> None:
        with writer(tmp_path / "0", SCHEMA) as sink:
            sink.write_batch(batch("a"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert below(tmp_path) == []


@pytest.mark.parametrize("writer", [parquet_writer, ipc_writer])
def test_a_file_may_have_no_rows(writer: Any, tmp_path: Path) -> None:
    for name, batches in (("none", []), ("empty", [batch()])):
        with writer(tmp_path / name, SCHEMA) as sink:
            for part in batches:
                sink.write_batch(part)

    if writer is ipc_writer:
        assert [list(read_ipc(tmp_path / n)) for n in ("none", "empty")] == [[], [batch()]]
    else:
        empty = SCHEMA.empty_table()
        assert [pq.read_table(tmp_path / n) for n in ("none", "empty")] == [empty, empty]


@given(
    sizes=st.lists(st.integers(0, 3), max_size=9), step=st.integers(1, 4), first=st.integers(0, 4)
)
def test_any_batches_of_an_ipc_file_can_be_read_alone(
    sizes: list[int], step: int, first: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ipc") / "0.arrow"
    batches = [batch(*(f"{i} {j}" for j in range(size))) for i, size in enumerate(sizes)]
    with ipc_writer(path, SCHEMA) as sink:
        for part in batches:
            sink.write_batch(part)

    assert list(read_ipc(path)) == batches
    assert list(read_ipc(path, step, first)) == batches[first::step]


@given(parts=st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=5), max_size=5))
@pytest.mark.parametrize("kind", [np.dtype("u8"), PAIR], ids=["numbers", "pairs"])
def test_joined_parts_are_one_array(
    kind: np.dtype[Any], parts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("npy") / "a" / "0.npy"
    pairs = [[(n, n // 2) for n in part] if kind == PAIR else part for part in parts]
    arrays = [np.array(part, kind) for part in pairs]

    rows = join_parts(path, kind, [partial(np.copy, array) for array in arrays]).rows

    joined = np.load(path)
    assert (rows, joined.dtype) == (len(joined), kind)
    assert joined.tolist() == [value for part in pairs for value in part]


def test_a_joined_file_is_as_numpy_writes_it(tmp_path: Path) -> None:
    whole = np.arange(10, dtype="u4")
    np.save(tmp_path / "whole.npy", whole)

    rows = join_parts(tmp_path / "0.npy", whole.dtype, [lambda: whole[:4], lambda: whole[4:]]).rows

    assert rows == 10
    assert (tmp_path / "0.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_parts_take_the_type_of_the_file(tmp_path: Path) -> None:
    join_parts(tmp_path / "0.npy", np.dtype("u4"), [lambda: np.arange(3, dtype=np.int64)])

    assert np.load(tmp_path / "0.npy").dtype == np.dtype("u4")
    assert np.load(tmp_path / "0.npy", mmap_mode="r").tolist() == [0, 1, 2]
