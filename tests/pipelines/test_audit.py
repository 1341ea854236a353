"""The audit: a certificate that states what is so, and that can fail."""

import hashlib
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from pipelines.planted import VARIANTS
from tests.shards import photo, picture, write_parquet, write_shard


def small(seed: int) -> bytes:
    """Return a picture that takes little time."""
    return photo(seed, 160, 120, "PNG")


TEST_IMAGES = {f"{name}.png": small(seed) for seed, name in enumerate("abcde")}
CORPUS = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with test images, their index, a corpus, and a run over it."""
    home = tmp_path_factory.mktemp("audit")
    (home / "test").mkdir()
    for name, data in TEST_IMAGES.items():
        (home / "test" / name).write_bytes(data)
    index(home, "test")
    pairs = [(f"{n:03d}", small(100 + n), f"a photo, number {n}") for n in range(CORPUS)]
    write_shard(home / "corpus" / "00000", [*pairs[:5], ("gone", None, "no photo")])
    write_shard(home / "corpus" / "00001", [*pairs[5:], ("bad", b"\xff\xd8\xff", "not a photo")])
    run(home, home / "out")
    return home


def index(home: Path, name: str) -> None:
    paths = ["--images", str(home / name), "--out", str(home / "indexes" / name)]
    assert main(["index", *paths, "--name", name, "--workers", "1"]) == 0


def run(
    home: Path,
    output: Path,
    rules: str = "pdq_distance = {min_exclusive = 31}",
    index: str = "test",
) -> None:
    """Filter the corpus by rules, and an index if it is named."""
    recipe = output.with_suffix(".toml")
    sets = f'test_sets.indexes = ["{home / "indexes" / index}"]' if index else ""
    recipe.write_text(f'name = "near"\n{sets}\n[rules]\n{rules}\n')
    paths = ["--input", str(home / "corpus"), "--output", str(output), "--recipe", str(recipe)]
    assert main(["filter", *paths, "--workers", "1"]) == 0


def audited(output: Path, *options: str, folder: str = "audit") -> dict[str, Any]:
    """Audit a run, and return what audit.json says."""
    target = ("--output", str(output / folder))
    assert main(["audit", "--from", str(output), "--workers", "1", *target, *options]) == 0
    return json.loads((output / folder / "audit.json").read_text())


def recall_of(stated: dict[str, Any], rule: str = "any rule") -> dict[str, float]:
    return {
        f"{row['transform']} {row['strength']}".strip(): row["rules"][rule]["share"]
        for row in stated["recall"]
    }


@pytest.fixture(scope="module")
def stated(home: Path) -> dict[str, Any]:
    return audited(home / "out", "--against", str(home / "indexes" / "test"))


def test_files_and_benign_copies_of_test_images_are_found(stated: dict[str, Any]) -> None:
    recall = recall_of(stated)

    assert [recall[name] for name in ("same file", "JPEG quality 70", "grayscale")] == [1, 1, 1]
    assert recall["crop 30 %"] == 0
    assert stated["test_images"] == {"of": 5, "too_flat": 0, "sampled": 5, "sampled_too_flat": 0}


def test_what_is_found_is_found_by_its_own_test_image(stated: dict[str, Any]) -> None:
    first = stated["recall"][0]["rules"]["pdq_distance"]

    assert first == {
        "found": 5,
        "of": 5,
        "share": 1.0,
        "low": first["low"],
        "high": 1.0,
        "right": 5,
    }
    assert first["low"] == pytest.approx(0.025 ** (1 / 5))


def test_every_kind_of_copy_is_accounted_for(stated: dict[str, Any]) -> None:
    assert [row["rules"]["any rule"]["of"] for row in stated["recall"]] == [5] * len(VARIANTS)
    everything = stated["summary"]["all"]["any rule"]
    found = sum(row["rules"]["any rule"]["found"] for row in stated["recall"])
    assert (everything["found"], everything["of"]) == (found, 5 * len(VARIANTS))
    assert len(stated["missed"]) == everything["of"] - found


def test_the_corpus_without_a_copy_matches_nothing(stated: dict[str, Any]) -> None:
    corpus = stated["false_matches"]["corpus"]

    assert (corpus["images"], corpus["flat"], stated["damaged"]) == (CORPUS, 0, 1)
    pairs = corpus["rules"]["any rule"]["pairs"]
    assert (pairs["found"], pairs["of"]) == (0, CORPUS * 5)
    assert pairs["at_most"] == pytest.approx(1 - 0.05 ** (1 / 60))
    assert stated["matched"] == []


def test_the_run_and_the_audit_measure_the_same(stated: dict[str, Any]) -> None:
    assert stated["agreement"] == {"compared": CORPUS, "equal": CORPUS}
    assert stated["warnings"] == []


def test_every_image_that_was_judged_is_listed(home: Path, stated: dict[str, Any]) -> None:
    rows = pq.read_table(home / "out" / "audit" / "images.parquet").to_pylist()

    same = {row["name"]: row["sha256"] for row in rows if row["variant"] == 0}
    digests = {n: hashlib.sha256(data).hexdigest() for n, data in TEST_IMAGES.items()}
    assert same == {f"test/{name}": digest for name, digest in digests.items()}
    assert len(rows) == 5 * len(VARIANTS) + CORPUS
    dropped = sum(row["pdq_distance_reason"] is not None for row in rows)
    assert dropped == stated["summary"]["all"]["any rule"]["found"]


def test_a_rule_that_cannot_work_is_seen_to_fail(home: Path) -> None:
    run(home, home / "blind", "pdq_distance = {min_exclusive = 0}")

    stated = audited(home / "blind")

    recall = recall_of(stated)
    assert recall["same file"] == 1
    strong = stated["summary"]["strong"]["any rule"]
    assert strong["share"] < 0.05
    assert (
        recall["JPEG quality 10"] == recall["crop 10 %"] == recall["screenshot 50 % of page"] == 0
    )
    widest = stated["other_thresholds"]["pdq_distance"][-1]
    assert (widest["bound"], widest["all"]["share"] > strong["share"]) == (63, True)


def test_the_configured_threshold_among_others_finds_what_the_rule_finds(
    stated: dict[str, Any],
) -> None:
    rows = stated["other_thresholds"]["pdq_distance"]

    assert [row["bound"] for row in rows if row["configured"]] == [31]
    chosen = next(row for row in rows if row["configured"])
    assert chosen["all"] == stated["summary"]["all"]["pdq_distance"]
    found = [row["all"]["found"] for row in rows]
    assert found == sorted(found)


def test_two_rules_find_more_than_one(home: Path) -> None:
    both = "phash_distance = {min_inclusive = 7}\npdq_distance = {min_exclusive = 31}"
    run(home, home / "both", both)

    told = audited(home / "both")["summary"]["all"]

    assert list(told) == ["phash_distance", "pdq_distance", "any rule"]
    found = [rates["found"] for rates in told.values()]
    assert max(found[:2]) < found[2] <= sum(found[:2])


def test_an_embedding_is_audited_as_well(home: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra recaption")
    pytest.importorskip("transformers", reason="needs the extra recaption")
    pool, model = torch.nn.AdaptiveAvgPool2d(8), tmp_path / "encoder.pt"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(torch.nn.Sequential(pool, torch.nn.Flatten())).save(model)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'name = "alike"\nembedding.model = "{model}"\nembedding.size_px = 64\n'
        f'test_sets.indexes = ["{tmp_path / "index"}"]\n'
        "[rules.embedding_similarity]\nmax_inclusive = 0.98\n"
    )
    options = ["--recipe", str(recipe), "--workers", "1"]
    told = ["--images", str(home / "test"), "--out", str(tmp_path / "index"), "--name", "test"]
    assert main(["index", *told, *options]) == 0
    told = ["--input", str(home / "corpus"), "--output", str(tmp_path / "out")]
    assert main(["filter", *told, *options]) == 0

    stated = audited(tmp_path / "out", "--against", str(tmp_path / "index"))

    recall = recall_of(stated, "embedding_similarity")
    assert [recall[name] for name in ("same file", "JPEG quality 30", "blur 1 % of side")] == [
        1
    ] * 3
    assert recall["hue 180°"] == recall["turn 180°"] == 0
    assert stated["agreement"] == {"compared": CORPUS, "equal": CORPUS}
    rows = stated["other_thresholds"]["embedding_similarity"]
    assert [row["bound"] for row in rows if row["configured"]] == [0.98]
    found = [row["all"]["found"] for row in rows]
    assert found == sorted(found, reverse=True)


def test_a_copy_in_the_corpus_is_named_with_its_test_image(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "corpus", tmp_path / "corpus")
    shutil.copytree(home / "indexes", tmp_path / "indexes")
    write_shard(tmp_path / "corpus" / "00002", [("leak", TEST_IMAGES["c.png"], "a <b>leak</b>")])
    run(tmp_path, tmp_path / "out")

    stated = audited(tmp_path / "out")

    (case,) = stated["matched"]
    assert (case["name"], case["rules"]) == (
        "00002/leak",
        {"pdq_distance": {"value": 0, "test_image": "test/c.png"}},
    )
    pairs = stated["false_matches"]["corpus"]["rules"]["pdq_distance"]["pairs"]
    assert (pairs["found"], pairs["of"]) == (1, (CORPUS + 1) * 5)
    page = (tmp_path / "out" / "audit" / "index.html").read_text()
    assert "00002/leak" in page


def test_images_that_a_user_vouches_for_are_counted_apart(home: Path, tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(small(200 + n))
    (tmp_path / "flat.png").write_bytes(picture(64, 64))

    stated = audited(home / "out", "--different", str(tmp_path), folder="different")

    told = stated["false_matches"]["different"]
    assert (told["images"], told["flat"]) == (4, 1)
    assert told["rules"]["any rule"]["pairs"]["of"] == 3 * 5


def test_a_sample_is_drawn_by_its_seed(home: Path) -> None:
    options = ("--sample", "2", "--corpus-sample", "4")
    first, again, other = (
        audited(home / "out", *options, "--seed", seed, folder=f"seed-{n}")
        for n, seed in enumerate(("1", "1", "3"))
    )

    assert first == again
    assert first["test_images"]["sampled"] == 2
    assert first["false_matches"]["corpus"]["images"] + first["damaged"] == 4
    files = [(home / "out" / f"seed-{n}" / "images.parquet").read_bytes() for n in range(3)]
    assert files[0] == files[1] != files[2]
    assert first["missed"] != other["missed"]


def test_the_number_of_processes_changes_nothing(home: Path, stated: dict[str, Any]) -> None:
    assert audited(home / "out", "--workers", "2", folder="two") == stated


def test_a_flat_test_image_is_missed_and_counted(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "corpus", tmp_path / "corpus")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "flat.png").write_bytes(picture(64, 64))
    (tmp_path / "flat" / "a.png").write_bytes(TEST_IMAGES["a.png"])
    index(tmp_path, "flat")
    run(tmp_path, tmp_path / "out", index="flat")

    stated = audited(tmp_path / "out")

    assert stated["test_images"] == {"of": 2, "too_flat": 1, "sampled": 2, "sampled_too_flat": 1}
    recall = recall_of(stated)
    assert (recall["same file"], recall["JPEG quality 90"]) == (1, 0.5)
    assert stated["notes"][1].startswith("1 of the 2 test images are too flat for hashes")
    assert stated["false_matches"]["corpus"]["rules"]["any rule"]["pairs"]["of"] == CORPUS


def test_a_run_without_an_index_is_audited_against_one_and_says_so(home: Path) -> None:
    run(home, home / "blank", index="")

    stated = audited(home / "blank", "--against", str(home / "indexes" / "test"))

    assert stated["warnings"][0].startswith("The run itself looked for no test images")
    assert (recall_of(stated)["same file"], stated["agreement"]) == (1, None)


def test_other_indexes_than_the_runs_are_said_to_be_others(home: Path) -> None:
    (home / "more").mkdir()
    (home / "more" / "z.png").write_bytes(small(50))
    index(home, "more")

    paths = [str(home / "indexes" / name) for name in ("test", "more")]
    stated = audited(home / "out", "--against", *paths, folder="others")

    assert stated["warnings"][0].startswith("The run looked in other indexes")
    assert [one["path"] for one in stated["indexes"]] == paths
    assert stated["test_images"]["of"] == 6


def test_test_images_that_moved_are_read_where_they_are(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "test", tmp_path / "moved")

    stated = audited(home / "out", "--images", str(tmp_path / "moved"), folder="moved")

    assert recall_of(stated)["same file"] == 1


def test_the_page_asks_for_nothing_and_runs_nothing(home: Path, stated: dict[str, Any]) -> None:
    page = (home / "out" / "audit" / "index.html").read_text()

    assert re.findall(r"<script|https?://|@import|<link[^>]*href=\"(?!data:)", page) == []
    assert "default-src 'none'" in page
    for sentence in stated["verdict"]:
        assert sentence in page.replace("\u00a0", " ")


def test_a_name_cannot_write_into_the_page(home: Path, tmp_path: Path) -> None:
    hostile = '<img src=x onerror=alert(1)>"{{ 7 * 7 }}'
    shutil.copytree(home / "corpus", tmp_path / "corpus")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / f"{hostile}.png").write_bytes(small(7))
    index(tmp_path, "odd")
    run(tmp_path, tmp_path / "out", index="odd")

    audited(tmp_path / "out")

    page = (tmp_path / "out" / "audit" / "index.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&#34;{{ 7 * 7 }}" in page


def test_it_prints_the_table_and_where_the_certificate_is(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = audited(home / "out", folder="printed")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["recall,", "%", "pdq_distance", "any", "rule"]
    assert lines[1].split() == ["same", "file", "benign", "100.0", "100.0"]
    assert lines[-1] == f"certificate: {home / 'out' / 'printed' / 'index.html'}"
    assert set(stated["verdict"]) <= set(lines)


def refused(capsys: pytest.CaptureFixture[str], output: Path, *options: str) -> str:
    """Audit what cannot be audited; return the sentence that says so."""
    capsys.readouterr()
    assert main(["audit", "--from", str(output), "--workers", "1", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("altmill: ")


def test_what_an_audit_needs_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, absent = home / "out", str(tmp_path / "absent")
    twice = [str(home / "indexes" / "test")] * 2

    assert refused(capsys, tmp_path).startswith(f"{tmp_path} must hold a complete run")
    assert refused(capsys, out, "--against", absent).startswith(f"index {absent} must be a folder")
    assert refused(capsys, out, "--against", *twice).startswith("indexes must hold different test")
    assert refused(capsys, out, "--images", absent, absent).startswith("--images must name a place")
    assert refused(capsys, out, "--images", absent).startswith(
        f"test set test must be where its index found it, got: input {absent} must exist"
    )
    assert refused(capsys, out, "--different", absent).startswith(f"input {absent} must exist")


def test_a_test_image_that_was_replaced_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "test", tmp_path / "moved")
    (tmp_path / "moved" / "b.png").write_bytes(small(77))

    sentence = refused(capsys, home / "out", "--images", str(tmp_path / "moved"))

    assert "for 1 of them, such as b.png; give their place with --images" in sentence


@pytest.mark.parametrize("option", ["--sample", "--corpus-sample"])
def test_a_sample_of_none_is_refused(
    option: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["audit", "--from", str(home / "out"), option, "0"])

    assert "must be a number from 1 on, got '0'" in capsys.readouterr().err


def test_a_recipe_that_looks_for_nothing_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, rules in enumerate(("token_count = {min_inclusive = 1}", "pdq_distance = {}")):
        run(home, home / f"none-{n}", rules)

        assert "must have a rule with a limit" in refused(capsys, home / f"none-{n}")


def test_a_run_without_an_index_needs_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(home, home / "bare", index="")

    assert refused(capsys, home / "bare").startswith("audit must be told what test sets")


def test_a_corpus_of_metadata_or_one_that_is_gone_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = ("--against", str(home / "indexes" / "test"))
    write_parquet(tmp_path / "corpus" / "0.parquet", {"url": ["u"], "caption": ["a photo"]})
    run(tmp_path, tmp_path / "metadata", index="")
    assert "got one over metadata alone" in refused(capsys, tmp_path / "metadata", *against)

    write_shard(tmp_path / "corpus" / "0", [("0", small(1), "a photo")])
    run(tmp_path, tmp_path / "images", index="")
    (tmp_path / "corpus" / "0.tar").unlink()
    assert "must still hold" in refused(capsys, tmp_path / "images", *against)


def test_another_run_into_the_folder_takes_the_old_certificate_away(home: Path) -> None:
    output = home / "again"
    run(home, output)
    audited(output)
    recipe = output.with_suffix(".toml")
    recipe.write_text(recipe.read_text().replace("min_exclusive = 31", "min_exclusive = 20"))

    assert main(["decide", "--from", str(output), "--recipe", str(recipe), "--workers", "1"]) == 0

    assert not (output / "audit").exists()
