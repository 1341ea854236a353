"""Manifest: the account of every row, and what tells whether a run is the same."""

import json
import os
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from filters.aspect_ratio import AspectRatio
from filters.parsing import from_dict
from filters.recipe import Recipe
from filters.token_count import TokenCount
from pipelines.exchange import Run
from pipelines.inputs import Shard, find_shards
from pipelines.language import Identifier
from pipelines.manifest import (
    build_manifest,
    close_account,
    code_version,
    environment,
    plan_digest,
)
from pipelines.statistics import add
from recaption.manifest import FORMAT, NAME, ManifestError, measured_folder, read_manifest
from tests.shards import write_shard, write_tar

RECIPE = Recipe(
    name="test",
    rules=(AspectRatio(max_exclusive=3), TokenCount(min_inclusive=3, max_inclusive=20)),
)
ACCOUNT: dict[str, Any] = {
    "rows": 9,
    "reasons": {
        "token_count.too_long": 1,
        "kept": 3,
        "intact.image_missing": 1,
        "token_count.too_short": 2,
        "intact.caption_missing": 1,
        "aspect_ratio.too_long": 1,
    },
    "unchecked": 2,
    "duplicates": {"groups": 1, "copies": 2},
    "tables": {"texts": {"distinct": 4}, "images": {"distinct": 5}},
    "shards": {
        "b": {"shard": "b", "rows": 4},
        "\U0001f600": {"shard": "\U0001f600", "rows": 2},
        "\uffff": {"shard": "\uffff", "rows": 1},
        "a/b": {"shard": "a/b", "rows": 2},
    },
}


def run_at(home: Path, measured: Path) -> Run:
    return Run(
        source=Path("/crawl"),
        output=home / "_work",
        home=home,
        recipe=RECIPE,
        measured=measured,
        partitions=1,
    )


def test_a_manifest_tells_all_in_an_order_of_its_own(tmp_path: Path) -> None:
    manifest = build_manifest(ACCOUNT, run_at(tmp_path, tmp_path))

    assert manifest == {
        "format": FORMAT,
        "altmill": code_version(),
        "environment": environment(),
        "recipe": RECIPE.as_dict(),
        "recipe_digest": RECIPE.digest,
        "language_model": Identifier().model_digest,
        "test_sets": {},
        "input": "/crawl",
        "measured": ".",
        "rows_in": 9,
        "kept": 3,
        "dropped": {reason: n for reason, n in ACCOUNT["reasons"].items() if reason != "kept"},
        "kept_unchecked": 2,
        "duplicates": ACCOUNT["duplicates"],
        "tables": ACCOUNT["tables"],
        "shards": [ACCOUNT["shards"][name] for name in ("a/b", "b", "\uffff", "\U0001f600")],
    }
    assert list(manifest["dropped"]) == [
        "intact.caption_missing",
        "intact.image_missing",
        "aspect_ratio.too_long",
        "token_count.too_short",
        "token_count.too_long",
    ]
    assert list(manifest["duplicates"]) == ["copies", "groups"]
    assert list(manifest["tables"]) == ["images", "texts"]
    assert from_dict(json.loads(json.dumps(manifest["recipe"])), "it") == RECIPE


def test_a_manifest_is_the_same_in_whatever_order_stages_end(tmp_path: Path) -> None:
    found = [
        {"tables": {"texts": {"distinct": 4, "shared": 1}}},
        {"tables": {"texts": {"listed": 1}}},
        {"shards": {"0": {"shard": "0", "kind": "metadata", "rows": 2, "files": []}}},
        {"shards": {"0": {"kept": 1, "dropped": {}}}},
    ]

    told = [build_manifest(add(some), run_at(tmp_path, tmp_path)) for some in permutations(found)]

    assert {json.dumps(manifest) for manifest in told} == {json.dumps(told[0])}
    assert list(told[0]["shards"][0]) == ["shard", "kind", "rows", "files", "dropped", "kept"]


def test_an_empty_corpus_has_a_manifest_that_closes(tmp_path: Path) -> None:
    manifest = build_manifest({}, run_at(tmp_path, tmp_path))

    close_account(manifest)

    told = ("rows_in", "kept", "dropped", "kept_unchecked", "duplicates", "tables", "shards")
    assert [manifest[name] for name in told] == [0, 0, {}, 0, {}, {}, []]


def test_columns_of_another_run_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = build_manifest({}, run_at(Path("out"), Path("out")))
    other = build_manifest({}, run_at(Path("new"), Path("out")))

    assert measured_folder(Path("out"), own) == Path("out")
    assert measured_folder(Path("new"), other) == tmp_path / "out"


def test_an_account_that_closes_is_fine(tmp_path: Path) -> None:
    manifest = build_manifest(ACCOUNT, run_at(tmp_path, tmp_path))

    close_account(manifest)

    assert manifest["rows_in"] == manifest["kept"] + sum(manifest["dropped"].values())


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 8},
        {"rows": 10},
        {"reasons": ACCOUNT["reasons"] | {"kept": 2}},
        {"reasons": ACCOUNT["reasons"] | {"aspect_ratio.too_long": 2}},
        {"shards": ACCOUNT["shards"] | {"c": {"shard": "c", "rows": 1}}},
        {"shards": {"b": {"shard": "b", "rows": 4}}},
    ],
    ids=str,
)
def test_an_account_that_does_not_close_is_a_defect(change: dict[str, Any], tmp_path: Path) -> None:
    manifest = build_manifest(ACCOUNT | change, run_at(tmp_path, tmp_path))

    with pytest.raises(ManifestError, match=r"^the account must close, got "):
        close_account(manifest)


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    manifest = {"format": FORMAT, "a": ["\u72ac"]}
    (tmp_path / NAME).write_text(json.dumps(manifest), encoding="utf-8")

    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "{}/manifest.json must be a manifest, got: "),
        (b"[]", "{}/manifest.json must be a manifest, got: "),
        (b"{}", "{}/manifest.json must be a manifest, got: 'format'; run filter again"),
        (b"\xff", "{}/manifest.json must be a manifest, got: "),
        (b'{"format": 99}', "{}/manifest.json must have format 1, got 99; use the altmill that "),
        (None, "{} must hold a complete run, got no manifest.json there; run filter to its end, "),
    ],
)
def test_what_is_no_manifest_is_told_in_a_sentence(
    content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / NAME).write_bytes(content)

    with pytest.raises(ManifestError) as error:
        read_manifest(tmp_path)

    assert str(error.value).startswith(sentence.format(tmp_path))
    assert "\n" not in str(error.value)


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    for name in ("0", "deep/1"):
        write_shard(tmp_path / "in" / name, [("0", b"i", "a")])
        for path in (tmp_path / "in").rglob("*.*"):
            os.utime(path, ns=(10**18, 10**18))
    return find_shards(str(tmp_path / "in"), {}, tmp_path / "out")[1]


def test_the_same_plan_has_the_same_digest(shards: list[Shard], tmp_path: Path) -> None:
    again = find_shards(str(tmp_path / "in"), {}, tmp_path / "other")[1]

    digest = plan_digest(RECIPE, shards, 4)

    assert plan_digest(RECIPE, again, 4) == digest
    assert re.fullmatch("[0-9a-f]{64}", digest) is not None


def test_whatever_changes_a_plan_changes_its_digest(shards: list[Shard], tmp_path: Path) -> None:
    def found() -> list[Shard]:
        return find_shards(str(tmp_path / "in"), {}, tmp_path / "out")[1]

    digests = [plan_digest(RECIPE, shards, 4)]
    digests.append(plan_digest(RECIPE, shards, 8))
    digests.append(plan_digest(RECIPE, shards[:1], 4))
    digests.append(plan_digest(Recipe(name="test", rules=RECIPE.rules[::-1]), shards, 4))
    for name in ("0.tar", "deep/1.parquet"):
        os.utime(tmp_path / "in" / name, ns=(10**18, 10**18 + 1))
        digests.append(plan_digest(RECIPE, found(), 4))
    write_tar(tmp_path / "in" / "0.tar", [("0.jpg", b"i" * 20_000)])
    os.utime(tmp_path / "in" / "0.tar", ns=(10**18, 10**18 + 1))
    digests.append(plan_digest(RECIPE, found(), 4))

    assert len(set(digests)) == len(digests) == 7


def test_the_versions_that_a_result_depends_on_are_told() -> None:
    assert re.fullmatch(r"\d[\w.]*\+[0-9a-f]{8}", code_version()) is not None
    assert code_version() == code_version()
    assert {"python", "unicode", "numpy", "pillow", "pyarrow"} <= set(environment())
    assert "0" not in environment().values()
