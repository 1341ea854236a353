"""Shards lose what was taken down, also where copies and better captions are among it."""

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from recaption.captions import SCHEMA, captions_path
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.filter_run import FilterRun
from recaption.shards import generate_shard, score_shard
from tests.captioners import Echo, Lengths
from tests.outputs import manifest_of, rows_of
from tests.shards import picture, write_shard
from tests.takedowns import ask, everything, run, uids_of

COPY = picture(300, 310)
KEPT, COPIED = "the zorbington dog on the grass", "a quuxley dog on the grass"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return a run that keeps one of two copies, the larger, and merges their captions."""
    first = [("a", picture(400, 410), "a photo of a cat"), ("b", COPY, KEPT)]
    second = [("c", COPY, COPIED), ("d", picture(220, 230), "a red shoe on the mat")]
    write_shard(tmp_path / "in" / "0", [*first, ("e", picture(500, 510), "five cats on a mat")])
    write_shard(tmp_path / "in" / "1", second)
    (tmp_path / "bare.toml").write_text(
        'name = "bare"\nmaterialise = true\n'
        '[rules.duplicate]\nsame = "image"\nkeep = "first"\nmerge_captions = true\n'
    )
    paths = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    assert run("filter", *paths, "--recipe", tmp_path / "bare.toml") == 0
    return tmp_path / "out"


def samples(output: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted((output / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            found[path.stem] = [name for name in tar.getnames() if name.endswith(".txt")]
    return found


def kept(output: Path) -> list[str]:
    return sorted(row["uid"] for row in rows_of(output, "decisions") if row["reason"] is None)


def stays(output: Path) -> str:
    """Return the caption of the copy that the run keeps."""
    reasons = {row["uid"]: row["reason"] for row in rows_of(output, "decisions")}
    [caption] = [c for c in (KEPT, COPIED) if reasons[uids_of(output, c)[0]] is None]
    return caption


def test_a_copy_comes_in_the_place_of_a_pair_that_went(output: Path) -> None:
    goes = stays(output)
    [other] = {KEPT, COPIED} - {goes}
    uids = uids_of(output, goes)

    assert run("takedown", "--uids", ask(output, uids), "--from", output) == 0

    assert uids_of(output, other)[0] in kept(output)
    assert sum(map(len, samples(output).values())) == len(kept(output)) == 4
    assert goes.encode() not in everything(output)
    assert (output / "takedown" / "same_image.txt").read_text().split() == uids_of(output, other)
    assert run("doctor", output / "shards") == 0


def test_the_caption_that_a_copy_left_behind_goes_too(output: Path) -> None:
    [goes] = {KEPT, COPIED} - {stays(output)}
    assert goes.encode() in everything(output / "shards")

    assert run("takedown", "--uids", ask(output, uids_of(output, goes)), "--from", output) == 0

    assert goes.encode() not in everything(output)
    assert sum(map(len, samples(output).values())) == 4


@pytest.mark.parametrize("goes", [KEPT, COPIED])
def test_without_the_input_shards_lose_what_must_go_and_get_nothing(
    goes: str, output: Path
) -> None:
    for path in (output.parent / "in").iterdir():
        path.unlink()

    assert run("takedown", "--uids", ask(output, uids_of(output, goes)), "--from", output) == 0

    assert goes.encode() not in everything(output)
    assert sum(map(len, samples(output).values())) == 3
    sizes = json.loads((output / "shards" / "sizes.json").read_text())
    assert {name: len(samples(output)[name.removesuffix(".tar")]) for name in sizes} == sizes
    assert run("doctor", output / "shards") == 0


def test_better_captions_of_a_pair_go_with_it_and_those_of_others_stay(tmp_path: Path) -> None:
    pairs = [(f"{n}", picture(300 + n, 400), f"a photo of the cat {n}") for n in range(6)]
    write_shard(tmp_path / "in" / "0", pairs)
    output = tmp_path / "out"
    changes = ("--set", "images.for_recaption=true")
    assert run("filter", "--input", tmp_path / "in", "--output", output, *changes) == 0
    filtered = FilterRun(output)
    [shard] = filtered.shards
    generate_shard(filtered, shard, Echo())
    score_shard(filtered, shard, Lengths())
    choose_all(filtered, Choose(rule="theory"))
    assert run("materialise", "--from", output) == 0
    assert main(["report", "--from", str(output)]) == 0
    [uid] = uids_of(output, "a photo of the cat 3")
    before = {row["uid"]: row for row in pq.read_table(captions_path(output, "0")).to_pylist()}
    traces = [before[uid]["raw"].encode(), before[uid]["chosen"].encode()]
    assert all(trace in everything(output) for trace in traces)

    assert run("takedown", "--uids", ask(output, [uid]), "--from", output) == 0

    table = pq.read_table(captions_path(output, "0"))
    after = {row["uid"]: row for row in table.to_pylist()}
    assert table.schema.equals(SCHEMA)
    assert [trace for trace in traces if trace in everything(output)] == []
    assert {name for name, value in after.pop(uid).items() if value} == {"uid", "key"}
    del before[uid]
    assert after == before
    told = json.loads((output / "captions" / "statistics.json").read_text())
    assert (told["kept"], told["kept_before"]) == (5, manifest_of(output)["kept"])
    assert len(samples(output)["0"]) == 5
    assert (output / "report" / "captions.html").exists()
    rechosen = choose_all(FilterRun(output), Choose(rule="theory"))
    assert rechosen["kept"] == 5
