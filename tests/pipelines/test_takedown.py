"""What was taken down is in no file that a run leaves, and stays away."""

import json
import random
import shutil
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from pipelines.commands import main
from tests.interruptions import kill_group, kill_once
from tests.outputs import files_of, manifest_of, rows_of, subset_of, table_rows
from tests.shards import picture, write_parquet, write_shard
from tests.takedowns import ask, everything, run, uids_of

WORDS = ("red", "blue", "shoe", "dog", "cat", "photo", "of", "grass", "a", "the")
SECRET = ("a photo of quuxley zorbington on grass", "Quuxley  Zorbington red shoe photo of the dog")
"""Captions that the corpus has in one pair each; the words are in no other."""
SHARED = "a photo of a red dog"
"""One that several have."""
MATERIALISE = ("--set", "materialise=true")


def write_corpus(folder: Path) -> None:
    chance = random.Random(7)
    for shard in range(3):
        pairs: list[tuple[str, bytes | None, str | None]] = [
            (f"{shard}{row:04d}", picture(210 + row, 300), " ".join(chance.choices(WORDS, k=5)))
            for row in range(40)
        ]
        pairs[5] = (pairs[5][0], picture(205, 333 + shard), SHARED)
        if shard < 2:
            pairs[7] = (pairs[7][0], picture(203 + shard, 377), SECRET[shard])
        write_shard(folder / f"{shard:05d}", pairs, host=f"host{shard}.example")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder / "in")
    assert run("filter", "--input", folder / "in", "--output", folder / "out", *MATERIALISE) == 0
    return folder / "in", folder / "out"


@pytest.fixture
def output(corpus: tuple[Path, Path], tmp_path: Path) -> Path:
    """Return a copy of a run's output."""
    shutil.copytree(corpus[1], tmp_path / "out")
    return tmp_path / "out"


def test_nothing_of_a_pair_is_left(output: Path, corpus: tuple[Path, Path]) -> None:
    uids = uids_of(output, *SECRET)
    (output / "audit").mkdir()
    (output / "audit" / "1.png").write_bytes(picture(203, 377))
    (output / "columns" / ".00000.parquet.a-killed-1.tmp").write_text(SECRET[0])
    hashes = [xxhash.xxh3_64_intdigest(word, 0) for word in (b"quuxley", b"zorbington")]
    lookup = output / "tables" / "lookup" / "ngrams.hashes.npy"
    assert np.isin(hashes, np.load(lookup)).all()
    before = {(r["shard"], r["uid"]): r for r in rows_of(output, "decisions")}
    traces = [b"uuxley", b"zorbington", picture(203, 377), picture(204, 377), b"00007", b"10007"]
    traces[4:] = [b"host0.example/00007", b"host1.example/10007"]
    assert all(trace in everything(output) for trace in traces)

    code = run("takedown", "--uids", ask(output, uids), "--from", output)

    left = everything(output)
    assert code == 0
    assert not np.isin(hashes, np.load(lookup)).any()
    assert [trace for trace in traces if trace in left] == []
    after = {(r["shard"], r["uid"]): r for r in rows_of(output, "decisions")}
    gone = {key for key in before if key[1] in uids}
    assert {after[key]["reason"] for key in gone} == {"intact.taken_down"}
    assert {k: r for k, r in after.items() if k not in gone} == {
        k: r for k, r in before.items() if k not in gone
    }
    manifest, old = manifest_of(output), manifest_of(corpus[1])
    assert manifest["rows_in"] == manifest["kept"] + sum(manifest["dropped"].values())
    assert manifest["dropped"] == {"intact.taken_down": 2} | old["dropped"]
    assert subset_of(output) == [uid for uid in subset_of(corpus[1]) if uid not in uids]


def test_what_is_left_is_what_a_run_leaves_over_a_corpus_without_the_pairs(
    output: Path, corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    uids = uids_of(output, *SECRET, SHARED)
    fresh = tmp_path / "fresh"
    shutil.copytree(output, fresh)

    assert run("takedown", "--uids", ask(output, uids), "--from", output) == 0
    assert run("takedown", "--uids", ask(fresh, uids), "--from", fresh) == 0
    manifest = fresh / "manifest.json"
    manifest.unlink()
    again = run("filter", "--input", corpus[0], "--output", fresh, *MATERIALISE, "--overwrite")

    assert again == 0
    ours, theirs = manifest_of(output), manifest_of(fresh)
    for name in ("tables", "rows_in", "kept", "dropped", "shards", "subset_uids"):
        assert ours[name] == theirs[name], name
    ngrams = [sorted(row[1:] for row in table_rows(one, "ngrams")) for one in (output, fresh)]
    assert ngrams[0] == ngrams[1]
    for name in ("texts", "images"):
        assert {row[1] for row in table_rows(output, name)} == {
            row[1] for row in table_rows(fresh, name)
        }
    statistics = [json.loads((one / "statistics.json").read_text()) for one in (output, fresh)]
    for name in ("sharing", "hosts", "reasons", "masks", "categories", "rows"):
        assert statistics[0][name] == statistics[1][name], name
    blank = [[r for r in rows_of(one, "columns") if r["uid"] in uids] for one in (output, fresh)]
    assert blank[0] == blank[1]
    for path in sorted((fresh / "shards").iterdir()):
        if path.suffix in (".tar", ".parquet") or path.name.endswith("_stats.json"):
            assert (output / "shards" / path.name).read_bytes() == path.read_bytes(), path.name
    for name in ("sizes.json", "croissant.json", "README.md"):
        assert (output / "shards" / name).read_bytes() == (fresh / "shards" / name).read_bytes()


def test_shards_of_others_are_not_written_again(output: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in (output / "shards").glob("0*")}

    assert run("takedown", "--uids", ask(output, uids_of(output, SECRET[1])), "--from", output) == 0

    touched = {path.name for path, at in times.items() if path.stat().st_mtime_ns != at}
    assert touched == {"00001.tar", "00001.parquet", "00001_stats.json"}
    with tarfile.open(output / "shards" / "00001.tar") as tar:
        assert not [name for name in tar.getnames() if name.startswith("10007")]
    assert run("doctor", output / "shards") == 0


def test_other_jobs_go_by_it(
    output: Path, corpus: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    uids = uids_of(output, *SECRET)
    assert run("takedown", "--uids", ask(output, uids), "--from", output) == 0

    assert run("filter", "--input", corpus[0], "--output", output, *MATERIALISE) == 0
    other = ("--recipe", "conceptual-captions", "--output", output.parent / "b")
    assert run("decide", "--from", output, *other) == 0
    assert run("decide", "--from", output, "--recipe", "datacomp-basic") == 0
    assert run("materialise", "--from", output) == 0
    assert main(["report", "--from", str(output)]) == 0
    assert main(["explain", uids[0], "--from", str(output)]) == 0
    assert "dropped: intact.taken_down" in capsys.readouterr().out
    assert run("diff", corpus[1], output) == 1

    for place in (output, output.parent / "b"):
        assert b"zorbington" not in everything(place).lower()
        assert manifest_of(place)["dropped"]["intact.taken_down"] == 2


def test_a_pair_stays_away_when_the_output_is_filled_anew(
    output: Path, corpus: tuple[Path, Path]
) -> None:
    uids = uids_of(output, *SECRET)
    assert run("takedown", "--uids", ask(output, uids), "--from", output) == 0

    paths = ("--input", corpus[0], "--output", output)
    assert run("filter", *paths, "--recipe", "coyo", *MATERIALISE, "--overwrite") == 0

    assert b"zorbington" not in everything(output).lower()
    assert manifest_of(output)["dropped"]["intact.taken_down"] == 2


def test_the_same_again_changes_nothing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ask(output, [*uids_of(output, *SECRET), "f" * 32])
    assert run("takedown", "--uids", file, "--from", output) == 0
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}

    code = run("takedown", "--uids", file, "--from", output)

    assert code == 0
    assert first.startswith(
        f"2 pairs taken down, of 3 uids that were not on the list of {output}; 1 of these have no "
        "pair here\n"
    )
    assert capsys.readouterr().out.startswith("0 pairs taken down, of 0 uids")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def own_ngrams(caption: str, others: list[str | None]) -> set[str]:
    """Return the n-grams that a caption alone has, the plain way."""

    def of(text: str) -> set[str]:
        words = text.lower().split()
        return {*words, *map(" ".join, pairwise(words))}

    return of(caption).difference(*(of(text) for text in others if text))


def test_the_record_says_what_was_asked_and_done_but_not_what_it_was(output: Path) -> None:
    uids = uids_of(output, *SECRET)
    for at, uid in enumerate(uids):
        assert run("takedown", "--uids", ask(output, [uid], f"{at}.txt"), "--from", output) == 0

    listed = pq.read_table(output / "takedown" / "uids.parquet").to_pylist()
    requests = json.loads((output / "takedown" / "requests.json").read_text())
    assert [row["uid"] for row in listed] == sorted(uids)
    assert [row["pairs"] for row in listed] == [1, 1]
    assert [(one["new"], one["pairs"], one["unknown"]) for one in requests] == [(1, 1, 0)] * 2
    assert [one["removed"]["ngrams"] for one in requests] == [
        4,  # on, "on grass", and the bigrams at both ends of the name, which the other has, too
        len(own_ngrams(SECRET[1], [row["caption"] for row in rows_of(output, "columns")])),
    ]
    assert not (output / "_work").exists()


@pytest.mark.parametrize("kind", ["txt", "parquet", "npy"])
def test_uids_come_as_text_as_parquet_or_as_datacomp_has_them(kind: str, output: Path) -> None:
    uids = uids_of(output, SHARED)
    path = output.parent / f"uids.{kind}"
    if kind == "txt":
        path.write_text("\n".join([*uids, "", uids[0]]))
    elif kind == "parquet":
        pq.write_table(pa.table({"uid": uids, "why": ["me"] * len(uids)}), path)
    else:
        halves = [(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids]
        np.save(path, np.array(halves, np.dtype("u8,u8")))

    assert run("takedown", "--uids", path, "--from", output) == 0

    assert manifest_of(output)["dropped"]["intact.taken_down"] == 3
    assert SHARED not in {row[1] for row in table_rows(output, "texts")}


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("", "no uid at all"),
        ("A" * 32, f"'{'A' * 32}'"),
        ("0123", "'0123'"),
    ],
)
def test_what_is_no_uid_is_refused_before_any_work(
    content: str, got: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = output.parent / "uids.txt"
    path.write_text(content)
    capsys.readouterr()

    code = run("takedown", "--uids", path, "--from", output)

    assert (code, capsys.readouterr().err) == (
        2,
        f"altmill: --uids {path} must hold uids, of 32 hexadecimal digits (0-9, a-f), got {got}; "
        "copy them from decisions/ or the report\n",
    )
    assert not (output / "takedown").exists()


def test_other_pairs_with_the_same_image_are_told_of(tmp_path: Path) -> None:
    image = picture(300, 301)
    pairs = [("a", image, "a photo of a dog"), ("b", image, "the zorbington dog")]
    pairs.append(("c", picture(300, 302), "a cat on a mat"))
    write_shard(tmp_path / "in" / "0", pairs)
    output = tmp_path / "out"
    assert run("filter", "--input", tmp_path / "in", "--output", output) == 0
    [uid] = uids_of(output, "the zorbington dog")

    assert run("takedown", "--uids", ask(output, [uid]), "--from", output) == 0

    assert (output / "takedown" / "same_image.txt").read_text().split() == uids_of(
        output, "a photo of a dog"
    )
    beside = output / "takedown" / "same_image.txt"
    assert run("takedown", "--uids", beside, "--from", output) == 0
    assert beside.read_text() == ""
    assert image not in everything(output)


def test_lists_of_what_is_to_be_downloaded_lose_it_too(tmp_path: Path) -> None:
    rows = {
        "url": [f"https://e.example/{n}.jpg" for n in range(4)],
        "caption": ["a photo of a dog", "the zorbington dog", "a cat on a mat", "a red shoe"],
    }
    write_parquet(tmp_path / "in" / "0.parquet", {n: v[:3] for n, v in rows.items()})
    write_parquet(tmp_path / "in" / "1.parquet", {n: v[3:] for n, v in rows.items()})
    output = tmp_path / "out"
    assert run("filter", "--input", tmp_path / "in", "--output", output, *MATERIALISE) == 0
    uids = uids_of(output, "the zorbington dog", "a red shoe")

    assert run("takedown", "--uids", ask(output, uids), "--from", output) == 0

    lists = output / "download"
    assert json.loads((lists / "sizes.json").read_text()) == {"0.parquet": 2, "1.parquet": 0}
    assert pq.read_table(lists / "0.parquet")["caption"].to_pylist() == [
        "a photo of a dog",
        "a cat on a mat",
    ]
    assert not (lists / "1.parquet").exists()
    assert b"e.example/1.jpg" not in everything(output)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "stage",
    [pytest.param("RewriteTables", marks=SLOW), "Blank", pytest.param("Rewrite", marks=SLOW)],
)
def test_a_takedown_that_is_killed_is_finished_and_nobody_reads_it_before(
    stage: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ask(output, uids_of(output, *SECRET, SHARED))
    other = output.parent / "other"
    shutil.copytree(output, other)
    assert run("takedown", "--uids", file, "--from", other) == 0
    done = output / "_work" / "takedown" / "_work" / "done" / stage
    command = ["takedown", "--uids", str(file), "--from", str(output), "--workers", "2"]
    kill_once(done, kill_group, command)
    capsys.readouterr()

    assert run("decide", "--from", output) == 2
    refused = capsys.readouterr().err
    assert run("takedown", "--from", output) == 0

    assert refused == (
        f"altmill: {output} must have no takedown under way, got one; wait for it, or finish it "
        f"by python -m pipelines takedown --from {output}\n"
    )
    assert left(output) == left(other)


def left(output: Path) -> dict[str, bytes]:
    """Return what does not depend on when it was asked for."""
    return {
        name: content
        for name, content in files_of(output).items()
        if name not in ("takedown/uids.parquet", "takedown/requests.json")
    }


def test_there_must_be_something_to_finish(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("takedown", "--from", output)

    assert (code, capsys.readouterr().err) == (
        2,
        f"altmill: {output} must have a takedown to finish, got none; name a file by --uids\n",
    )


def test_pairs_are_taken_down_where_they_were_measured_first(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided = output.parent / "decided"
    assert run("decide", "--from", output, "--output", decided) == 0
    file = ask(output, uids_of(output, *SECRET))
    capsys.readouterr()

    assert run("takedown", "--uids", file, "--from", decided) == 2
    refused = capsys.readouterr().err
    assert run("takedown", "--uids", file, "--from", output) == 0
    assert run("takedown", "--uids", file, "--from", decided) == 0

    assert refused.startswith(
        f"altmill: {decided} was decided from the columns of {output}, so pairs must be taken down "
        "there first"
    )
    assert b"zorbington" not in everything(decided).lower()
    assert manifest_of(decided)["dropped"]["intact.taken_down"] == 2
