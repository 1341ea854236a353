"""The Croissant file beside materialised shards: its own library takes it, and reads the pairs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.commands import main
from pipelines.materialised import facts_of, gather
from tests.outputs import manifest_of
from tests.shards import picture, write_parquet, write_tar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    pairs = {"a": ("PNG", "a red shoe"), "d/b": ("JPEG", "a blue shoe")}
    files = {
        f"{key}.{kind.lower()}": picture(201, 220, kind) for key, (kind, _) in pairs.items()
    } | {f"{key}.txt": text.encode() for key, (_, text) in pairs.items()}
    write_tar(tmp_path / "in" / "0 x.tar", sorted(files.items()))
    options = ("--set", "materialise=true", "--workers", "1", "--recipe", "datacomp-basic")
    source, output = map(str, (tmp_path / "in", tmp_path / "out"))
    assert main(["filter", "--input", source, "--output", output, *options]) == 0
    return tmp_path / "out" / "shards"


def stated(shards: Path) -> dict[str, Any]:
    return json.loads((shards / "croissant.json").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore")  # theirs
def test_mlcroissant_takes_it_and_reads_the_pairs(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    mlc = pytest.importorskip("mlcroissant", reason="reads what we write; too heavy for dev")

    dataset = mlc.Dataset(shards / "croissant.json")

    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert all("is recommended" in warning for warning in issues.warnings)
    rows = list(dataset.records("pairs"))
    assert [(row["pairs/key"], row["pairs/caption"]) for row in rows] == [
        (b"a", b"a red shoe"),
        (b"d/b", b"a blue shoe"),
    ]
    for kind, key in (("png", b"a"), ("jpg", b"d/b")):
        found = list(dataset.records(f"{kind}_images"))
        assert [row[f"{kind}_images/key"] for row in found] == [key]
        assert found[0][f"{kind}_images/image"].size == (201, 220)


def test_files_are_named_with_their_digests(shards: Path) -> None:
    files = {
        one["contentUrl"]: one["sha256"]
        for one in stated(shards)["distribution"]
        if one["@type"] == "cr:FileObject"
    }

    assert files == {
        name: hashlib.sha256((shards / name).read_bytes()).hexdigest()
        for name in ("0 x.tar", "0 x.parquet")
    }


def test_it_says_what_was_filtered_and_by_what(shards: Path) -> None:
    manifest = manifest_of(shards.parent)
    told = stated(shards)["rai:dataPreprocessingProtocol"][0]

    assert manifest["recipe_digest"] in told
    assert f"{manifest['rows_in']} read" in told
    assert f"{manifest['kept']} in these shards" in told
    assert "red shoe" not in json.dumps(stated(shards))


def test_columns_whose_types_differ_between_shards_hold_text(tmp_path: Path) -> None:
    columns = {
        "one": {"n": pa.array([1], pa.int32()), "x": ["a"], "y": pa.nulls(1)},
        "two": {"n": pa.array([1], pa.int64()), "x": [5], "y": [2.5], "z": [True]},
    }
    for name, table in columns.items():
        write_tar(tmp_path / "shards" / f"{name}.tar", [])
        write_parquet(tmp_path / "shards" / f"{name}.parquet", table)
    found = [facts_of(tmp_path / "shards", name, ["jpg"] * 2, 2) for name in columns]

    data = gather(tmp_path, {}, [*found, {"other": 1}])

    kinds = {field.name: str(field.type) for field in data.columns}
    assert kinds == {"n": "int64", "x": "string", "y": "double", "z": "bool"}
    assert (data.samples, data.images) == (4, {"jpg": 4})
    assert list(data.files) == ["one.parquet", "one.tar", "two.parquet", "two.tar"]
