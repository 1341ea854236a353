"""Deciding again from measured columns gives what a fresh filter run gives, in seconds."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.outputs import files_of, found_by, manifest_of, rows_of
from tests.shards import picture, write_shard

ROOT = Path(__file__).parents[2]
UNDECODED = ("--set", "images.decode=false")
PIXELS_BEGIN = 8 + 25 + 8  # of a PNG: signature, IHDR, and the head of IDAT
STRICT = """
name = "strict"
[rules.shorter_side]
min_inclusive = 230
[rules.ngram_rank]
max_inclusive = 150
[rules.language]
max_other_score_exclusive = 0.0
[rules.token_count]
min_inclusive = 6
max_exclusive = 12
"""


def run(job: str, *options: object) -> None:
    assert main([job, *map(str, options), "--workers", "1"]) == 0


def refusal(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    assert main(["decide", *map(str, options), "--workers", "1"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.fixture(scope="module")
def by_align(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a filter run's output by `align`, without decoding; not to be changed."""
    output = tmp_path_factory.mktemp("by_align") / "out"
    run("filter", "--input", sample, "--output", output, *UNDECODED)
    return output


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "strict.toml"
    path.write_text(STRICT)
    return path


@pytest.fixture(scope="module")
def fresh(sample: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a filter run's output by `recipe`; not to be changed."""
    output = tmp_path_factory.mktemp("fresh") / "out"
    run("filter", "--input", sample, "--output", output, "--recipe", recipe, *UNDECODED)
    return output


def test_deciding_in_place_leaves_what_a_fresh_run_leaves(
    by_align: Path, recipe: Path, fresh: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(by_align, output)

    run("decide", "--from", output, "--recipe", recipe, *UNDECODED)

    assert files_of(output) == files_of(fresh)
    assert len(manifest_of(output)["dropped"]) > 6


def test_deciding_elsewhere_leaves_the_measured_columns_where_they_are(
    by_align: Path, recipe: Path, fresh: Path, tmp_path: Path
) -> None:
    before = files_of(by_align)
    output = tmp_path / "out"

    run("decide", "--from", by_align, "--recipe", recipe, "--output", output, *UNDECODED)

    names = [name for name in files_of(fresh) if not name.startswith(("columns", "tables"))]
    assert sorted(files_of(output)) == sorted(names)
    for name in ("decisions/00000.parquet", "subset.npy"):
        assert files_of(output)[name] == files_of(fresh)[name]
    assert manifest_of(output) == manifest_of(fresh) | {"measured": str(by_align)}
    assert files_of(by_align) == before


def test_what_was_decided_elsewhere_can_be_decided_from(
    by_align: Path, recipe: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run("decide", "--from", by_align, "--recipe", recipe, "--output", first, *UNDECODED)

    run("decide", "--from", first, "--output", second, *UNDECODED)

    for name in ("decisions/00000.parquet", "subset.npy"):
        assert files_of(second)[name] == files_of(by_align)[name]
    assert manifest_of(second) == manifest_of(by_align) | {"measured": str(by_align)}


def test_the_report_is_of_the_new_decisions(by_align: Path, recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    run("decide", "--from", by_align, "--recipe", recipe, "--output", output, *UNDECODED)

    page = (output / "report" / "index.html").read_text()
    assert "ngram_rank.too_rare" in page
    assert "images_per_text.too_many" not in page
    assert f"{manifest_of(output)['kept']:,}" in page


def test_shards_are_materialised_from_what_was_measured(
    sample: Path, by_align: Path, tmp_path: Path
) -> None:
    options = ("--set", "materialise=true", *UNDECODED)
    run("filter", "--input", sample, "--output", tmp_path / "fresh", *options)

    run("decide", "--from", by_align, "--output", tmp_path / "out", *options)

    assert files_of(tmp_path / "out" / "shards") == files_of(tmp_path / "fresh" / "shards")


def test_what_another_recipe_dropped_was_not_decoded_and_that_is_counted(tmp_path: Path) -> None:
    damaged = picture(300, 240)[: PIXELS_BEGIN + 4]
    pairs = [("a", damaged, "short"), ("b", damaged, "a photo of a shoe"), ("c", None, "gone")]
    write_shard(tmp_path / "in" / "0", [*pairs, ("d", picture(300, 240), "two words")])
    limit = "rules.token_count.min_inclusive"
    run("filter", "--input", tmp_path / "in", "--output", tmp_path / "strict")
    run("filter", "--input", tmp_path / "in", "--output", tmp_path / "lax", "--set", f"{limit}=1")

    run("decide", "--from", tmp_path / "strict", "--output", tmp_path / "a", "--set", f"{limit}=1")
    run("decide", "--from", tmp_path / "lax", "--output", tmp_path / "b")

    damage, failed = "intact.image_damaged", "intact.download_failed"
    short = "token_count.too_short"
    found = {
        name: [row["reason"] for row in rows_of(tmp_path / name, "decisions")]
        for name in ("strict", "lax", "a", "b")
    }
    assert found == {
        "strict": [short, damage, failed, short],
        "lax": [damage, damage, failed, None],
        "a": [None, damage, failed, None],  # two kept rows that nobody has decoded
        "b": [damage, damage, failed, short],  # what is known stays known
    }
    assert {name: manifest_of(tmp_path / name)["kept_unchecked"] for name in found} == {
        "strict": 0,
        "lax": 0,
        "a": 2,
        "b": 0,
    }


def test_pixels_of_pairs_that_a_better_caption_would_mend_are_decoded_if_asked(
    tmp_path: Path,
) -> None:
    whole = picture(300, 240)
    damaged, small = whole[: PIXELS_BEGIN + 4], picture(100, 100)
    captions = {"kept": "a photo of a shoe", "short": "short", "none": "", "both": "short"}
    images = {"kept": whole, "short": whole, "none": whole, "both": small}
    pairs = [(key, images[key], text) for key, text in captions.items()]
    pairs += [("damaged", damaged, "short"), ("missing", None, ""), ("broken", damaged, "")]
    write_shard(tmp_path / "in" / "0", pairs)

    asked = ("--set", "images.for_recaption=true")
    run("filter", "--input", tmp_path / "in", "--output", tmp_path / "out", *asked)

    columns = {row["key"]: row for row in rows_of(tmp_path / "out", "columns")}
    decisions = {row["key"]: row["reason"] for row in rows_of(tmp_path / "out", "decisions")}
    assert {key: row["decoded"] for key, row in columns.items()} == {
        "kept": True,
        "short": True,
        "none": True,
        "both": None,
        "damaged": False,
        "missing": None,
        "broken": False,
    }
    assert decisions == {
        "kept": None,
        "short": "token_count.too_short",
        "none": "intact.caption_missing",
        "both": "shorter_side.too_small",
        "damaged": "intact.image_damaged",
        "missing": "intact.download_failed",
        "broken": "intact.caption_missing",
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "images.max_pixels=99",
            "images.max_pixels must be as the columns were measured with, 178956970, got 99",
        ),
        (
            "images.decode=true",
            "images.decode must be as the columns were measured with, False, got True",
        ),
        (
            "tables.hash_seed=1",
            "tables.hash_seed must be as the columns were measured with, 0, got 1",
        ),
        (
            "columns.caption=caption",
            "columns.caption must be as the columns were measured with, None, got 'caption'",
        ),
    ],
)
def test_other_measurements_are_refused(
    change: str, sentence: str, by_align: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ("--output", tmp_path / "out")

    said = refusal(capsys, "--from", by_align, *output, *UNDECODED, "--set", change)

    assert said == f"altmill: {sentence}; use the same value, or run filter\n"
    assert not (tmp_path / "out").exists()


def test_another_filter_runs_output_is_not_decided_over(
    by_align: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(fresh, output)

    said = refusal(capsys, "--from", by_align, "--output", output, *UNDECODED)

    assert said == (
        f"altmill: output {output} must not hold another filter run, got one there; choose another "
        "folder\n"
    )
    assert files_of(output) == files_of(fresh)


def test_a_filter_run_does_not_take_new_decisions_for_its_own(
    sample: Path, by_align: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(by_align, output)
    run("decide", "--from", output, "--recipe", recipe, *UNDECODED)
    capsys.readouterr()

    code = main(["filter", "--input", str(sample), "--output", str(output), *UNDECODED])

    assert code == 2
    assert capsys.readouterr().err == (
        f"altmill: output {output} must be empty or hold the same run, got columns of a run with "
        "another recipe, input or code; choose another folder, or add --overwrite\n"
    )
    assert manifest_of(output)["recipe"]["name"] == "strict"


def test_an_interrupted_decision_keeps_the_old_ones(
    by_align: Path, recipe: Path, fresh: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(by_align, output)
    options = ["decide", "--from", output, "--recipe", recipe, *UNDECODED, "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", *map(str, options)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    done = output / "_work" / "decide" / "_work" / "done" / "Decide"
    end = time.monotonic() + 60
    while not any(done.glob("*.json")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)

    process.kill()

    assert process.wait() == -signal.SIGKILL
    kept = {n: data for n, data in files_of(output).items() if not n.startswith("_work/")}
    assert kept == files_of(by_align)
    assert found_by(output) == found_by(by_align)
    run("decide", "--from", output, "--recipe", recipe, *UNDECODED)
    assert files_of(output) == files_of(fresh)
