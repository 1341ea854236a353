"""Of each group of duplicates one pair stays: that which a slow, plain version chooses."""

import io
import json
import random
import shutil
import tarfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filters.duplicate import Duplicate
from filters.parsing import from_dict
from filters.recipe import Recipe
from pipelines.commands import main
from pipelines.hashes import MIN_QUALITY
from pipelines.plan import plan_decide, plan_filter
from pipelines.run import run_decide, run_filter
from tests.outputs import files_of, manifest_of, rows_of
from tests.plain import text_key
from tests.shards import SHARED_DATA, picture, write_parquet, write_shard

SHARDS = 3
MERGED = {"same": "near_image", "merge_captions": True}
REPEAT = "--direct_runner_bundle_repeat=1"
WORDS = ("red", "shoe", "dog", "photo", "grass")
Row = dict[str, Any]


def photograph(number: int, width: int = 160, quality: int = 90) -> bytes:
    """Return a JPEG of soft shapes; one number's are near one another."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((width, width * 3 // 4), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=quality
    )
    return file.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return shards with copies of pairs, of images, of near images, and of flat ones."""
    folder = tmp_path_factory.mktemp("source")
    chance = random.Random(5)
    images = [photograph(n, *how) for n in range(12) for how in ((160,), (160, 40), (120, 70))]
    images += [picture(90, 90, colour=colour) for colour in ("red", "pink")] * 3
    for shard in range(SHARDS):
        pairs = [
            (f"{shard}{row:03d}", chance.choice(images), " ".join(chance.choices(WORDS, k=1)))
            for row in range(40)
        ]
        write_shard(folder / f"{shard:05d}", pairs)
    return folder


def recipe(**rule: Any) -> Recipe:
    rules = {"shorter_side": {"max_inclusive": 120}, "duplicate": rule}
    return from_dict({"name": "test", "materialise": True, "rules": rules}, "the test")


def run(
    source: Path, output: Path, by: Recipe, *options: str, partitions: int = 4, **how: Any
) -> Path:
    plan = plan_filter(str(source), output, by, **({"workers": 1} | how))
    run_filter(replace(plan, run=replace(plan.run, partitions=partitions)), options)
    return output


def duplicates_plainly(output: Path, by: Recipe) -> list[str | None]:
    """Return what `duplicate_of` must be: by all pairs, and union-find."""
    rule = by.duplicate
    assert rule is not None
    rows = all_of(output)
    live = [at for at, row in enumerate(rows) if row["reason"] in (None, "duplicate.copy")]
    of = dict(zip(live, linked([rows[at] for at in live], rule), strict=True))
    groups = defaultdict(list)
    for at in live:
        groups[of[at], text_key(rows[at]["caption"]) if rule.of_pairs else None].append(at)
    found: list[str | None] = [None] * len(rows)
    for group in groups.values():
        best, *_ = sorted(group, key=lambda at: (-worth(rows[at], rule.keep), rows[at]["uid"], at))
        for at in set(group) - {best}:
            found[at] = rows[best]["uid"]
    return found


def all_of(output: Path) -> list[Row]:
    both = rows_of(output, "columns"), rows_of(output, "decisions")
    return [columns | decision for columns, decision in zip(*both, strict=True)]


def linked(rows: list[Row], rule: Duplicate) -> list[int]:
    """Return a number that the images of a group share."""
    parents = list(range(len(rows)))

    def root(at: int) -> int:
        while parents[at] != at:
            at = parents[at]
        return at

    for number, left in enumerate(rows):
        for before, right in enumerate(rows[:number]):
            if image_of(left) == image_of(right) or (rule.near and are_near(left, right, rule)):
                parents[root(number)] = root(before)
    return [root(at) for at in range(len(rows))]


def image_of(row: Row) -> str:
    return row["sha256"] or row["url"]


def are_near(a: Row, b: Row, rule: Duplicate) -> bool:
    name = rule.hash
    if None in (a[name], b[name]) or min(a["pdq_quality"], b["pdq_quality"]) < MIN_QUALITY:
        return False
    return (int(a[name], 16) ^ int(b[name], 16)).bit_count() <= rule.max_distance


def worth(row: Row, keep: str) -> float:
    if keep == "best_score":
        return float("-inf") if row["clip_score"] is None else float(row["clip_score"])
    return row["width"] * row["height"] if keep == "largest_image" else 0


@pytest.fixture(scope="module")
def measured(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that measured hashes."""
    return run(source, tmp_path_factory.mktemp("measured"), recipe(**MERGED))


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"same": "image", "keep": "first"},
        {"same": "near_image"},
        {"same": "near_image", "max_distance_inclusive": 4, "keep": "first"},
        {"same": "near_pair"},
        {"same": "near_pair", "hash": "phash", "max_distance_inclusive": 0},
        {"same": "near_image", "hash": "phash", "max_distance_inclusive": 6},
    ],
)
def test_copies_are_those_that_all_pairs_tell(
    rule: dict[str, Any], measured: Path, tmp_path: Path
) -> None:
    output, by = tmp_path / "out", replace(recipe(**rule), materialise=False)
    plan = plan_decide(measured, output, by, workers=1)

    run_decide(replace(plan, run=replace(plan.run, partitions=4)))

    shutil.copytree(measured / "columns", output / "columns")
    decisions = rows_of(output, "decisions")
    assert [row["duplicate_of"] for row in decisions] == duplicates_plainly(output, by)
    copies = [row for row in decisions if row["duplicate_of"]]
    assert [row["reason"] for row in copies] == ["duplicate.copy"] * len(copies)
    assert [row["value"] for row in copies] == [row["duplicate_of"] for row in copies]
    kept = {row["uid"] for row in decisions if row["reason"] is None}
    assert {row["duplicate_of"] for row in copies} <= kept
    told = manifest_of(output)["duplicates"]
    assert told["copies"] == len(copies) > 10
    if by.duplicate and by.duplicate.near:
        flat = [r for r in rows_of(output, "columns") if (r["pdq_quality"] or 99) < MIN_QUALITY]
        assert told["flat"] == len(flat) > 10
        assert f"are {len(flat)} of the images left" in (output / "report/index.html").read_text()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(([], {"workers": 2}), id="two processes"),
        pytest.param(([REPEAT], {}), id="files, replayed"),
        pytest.param(([REPEAT], {"carrier": "native"}), id="native, replayed"),
    ],
)
def test_every_way_to_run_leaves_the_same_bytes(
    how: tuple[list[str], dict[str, Any]], source: Path, measured: Path, tmp_path: Path
) -> None:
    again = run(source, tmp_path / "again", recipe(**MERGED), *how[0], **how[1])

    assert files_of(again) == files_of(measured)


def test_other_partitions_choose_the_same(measured: Path, tmp_path: Path) -> None:
    plan = plan_decide(measured, tmp_path, recipe(**MERGED), workers=1)

    for partitions in (1, 2, 16):
        run_decide(replace(plan, run=replace(plan.run, partitions=partitions)))

        assert files_of(tmp_path / "decisions") == files_of(measured / "decisions")
        assert files_of(tmp_path / "shards") == files_of(measured / "shards")


def test_the_captions_of_copies_go_to_the_pair_that_stays(source: Path, tmp_path: Path) -> None:
    by = recipe(same="image", merge_captions=True)

    output = run(source, tmp_path / "out", by)

    rows = all_of(output)
    said: dict[str, set[str]] = defaultdict(set)
    own = {row["uid"]: row["caption"] for row in rows}
    for row in rows:
        if row["duplicate_of"] and row["caption"] != own[row["duplicate_of"]]:
            said[row["duplicate_of"]].add(row["caption"])
    expected = {uid: sorted(captions, key=str.encode) for uid, captions in said.items()}
    parts = sorted((output / "tables" / "merged_captions").glob("*.parquet"))
    table = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert {row["uid"]: row["captions"] for row in table} == expected
    assert len(table) == len(expected) > 5
    samples = {}
    for shard in sorted((output / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            read = [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]  # type: ignore[arg-type]
        assert pq.read_table(shard.with_suffix(".parquet"))["merged_captions"].to_pylist() == [
            sample["merged_captions"] for sample in read
        ]
        samples |= {sample["uid"]: sample["merged_captions"] for sample in read}
    assert samples == {uid: expected.get(uid, []) for uid in samples}
    before = files_of(output / "shards")
    assert command("materialise", "--from", output) == 0
    assert files_of(output / "shards") == before


def command(job: str, *options: object) -> int:
    return main([job, *map(str, options), "--workers", "1"])


def test_another_distance_is_decided_without_an_image(source: Path, tmp_path: Path) -> None:
    first, fresh = tmp_path / "first", tmp_path / "fresh"
    (tmp_path / "a.toml").write_text('name = "a"\n[rules.duplicate]\nsame = "near_image"\n')
    by = ("--recipe", tmp_path / "a.toml")
    change = ("--set", "rules.duplicate.max_distance_inclusive=2")
    more = ("--set", "rules.duplicate.merge_captions=true")
    assert command("filter", "--input", source, "--output", first, *by) == 0
    assert command("filter", "--input", source, "--output", fresh, *by, *change, *more) == 0
    before = files_of(first)

    assert command("decide", "--from", first, *by, *change, *more) == 0

    assert files_of(first) == files_of(fresh) != before


def test_a_recipe_may_name_the_pair_that_a_copy_makes_way_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = run(source, tmp_path / "out", recipe(same="image"))
    copy = next(row for row in rows_of(output, "decisions") if row["duplicate_of"])
    capsys.readouterr()

    assert main(["explain", copy["uid"], "--from", str(output)]) == 0

    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("  duplicate "))
    assert line.split() == [
        "duplicate",
        "duplicate_of",
        "is",
        "null",
        copy["duplicate_of"],
        "duplicate.copy",
    ]


def test_metadata_alone_have_copies_by_url(tmp_path: Path) -> None:
    columns = {"url": ["u", "u", "v", "u"], "caption": ["a", "A ", "a", "b"]}
    write_parquet(tmp_path / "in" / "0.parquet", columns)

    output = run(
        tmp_path / "in", tmp_path / "out", replace(recipe(keep="first"), materialise=False)
    )

    rows = rows_of(output, "decisions")
    stays = min(rows[0]["uid"], rows[1]["uid"])
    assert {row["uid"]: row["duplicate_of"] for row in rows[:2]} == {
        rows[0]["uid"]: None if rows[0]["uid"] == stays else stays,
        rows[1]["uid"]: None if rows[1]["uid"] == stays else stays,
    }
    assert [row["duplicate_of"] for row in rows[2:]] == [None, None]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared/data is absent")
def test_real_pages_have_the_copies_that_all_pairs_tell(tmp_path: Path) -> None:
    by = replace(recipe(same="near_image"), rules=recipe(same="near_image").rules[1:])

    output = run(SHARED_DATA / "realalt", tmp_path / "out", replace(by, materialise=False))

    found = [row["duplicate_of"] for row in rows_of(output, "decisions")]
    assert found == duplicates_plainly(output, by)
    assert sum(one is not None for one in found) > 500
