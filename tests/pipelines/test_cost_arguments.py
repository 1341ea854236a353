"""`python -m pipelines plan`: what it says, from a description or from a sample."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.text import normalise, tokenise
from pipelines.commands import main
from tests.bench import corpus
from tests.shards import picture, write_shard


def plan(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["plan", *options]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    return json.loads(plan(capsys, *options, "--json"))


def test_the_table_has_stages_totals_and_what_dominates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = plan(capsys, "--rows", "1.8e9", "--workers", "1000")

    for part in ("Read ", "SortNgrams ", "CPU hours;", "1,000 workers", "Heaps' law", "1024 part"):
        assert part.replace("1024", "1,024") in told
    assert "most of the time: " in told
    assert "times the largest run that was measured" in told


def test_ten_times_the_rows_cost_about_ten_times_as_much(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small, large = (as_json(capsys, "--rows", rows)["totals"] for rows in ("1e6", "10_000_000"))

    assert 8 < large["cpu_hours"] / small["cpu_hours"] < 12
    assert 8 < large["sent_bytes"] / small["sent_bytes"] < 12
    assert large["distinct_ngrams"] < 10 * small["distinct_ngrams"]


def test_images_and_longer_captions_cost_more(capsys: pytest.CaptureFixture[str]) -> None:
    options: tuple[tuple[str, ...], ...] = (
        (),
        ("--words", "22"),
        ("--image-kb", "57", "--megapixels", "0.31", "--decoded", "0.1"),
        ("--image-kb", "57", "--megapixels", "0.31"),
        ("--image-kb", "57", "--megapixels", "0.31", "--set", "images.hashes=fast"),
    )

    hours = [as_json(capsys, "--rows", "1e7", *o)["totals"]["cpu_hours"] for o in options]

    assert hours[0] < min(hours[1:])
    assert hours[2] < hours[3] <= hours[4]  # to hash what is decoded to a quarter costs no more


def test_more_workers_need_fewer_hours_of_the_same_cpu_hours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, many = (
        as_json(capsys, "--rows", "1e8", "--shard-rows", "250000", "--workers", workers)["totals"]
        for workers in ("1", "64")
    )

    assert one["cpu_hours"] == many["cpu_hours"] == one["hours"]
    assert one["hours"] / 64 <= many["hours"] < one["hours"] / 16


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--memory-gib", "0.1"), "more than the 0.1 of a worker"),
        (("--disk-gib", "100"), "more than the 100 that there are"),
        (("--rows", "1e12"), "gRPC ends at 2 GiB"),
        (("--rows", "1e12"), "one 64-bit hash"),
        (("--shard-rows", "1000"), "shards of more than 1,000 rows"),
        (("--recipe", "coyo"), "not in this: rules.duplicate"),
    ],
)
def test_bounds_that_are_near_are_warned_of(
    options: tuple[str, ...], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, "--rows", "2e9", *options)["warnings"]

    assert any(warning in one for one in found)


def test_a_small_run_on_a_large_machine_has_no_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--rows", "1e6", "--shard-rows", "250000", "--memory-gib", "16", "--disk-gib", "99")

    assert as_json(capsys, *options)["warnings"] == []


def test_a_sample_of_captions_tells_their_length_and_heaps_law(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.write_captions(tmp_path / "captions", 20_000, 5_000, words=6.0)

    found = as_json(capsys, "--rows", "1e6", "--sample", str(tmp_path / "captions"))["corpus"]

    assert found["tokens"] == pytest.approx(6.0, rel=0.05)
    assert found["shard_rows"] == 5_000
    # 0.9 at 20,000 rows; every n-gram of a caption would be new at 1
    assert 0.8 < found["heaps"]["exponent"] < 1.0
    assert found["image_bytes"] == 0


def test_the_distinct_n_grams_of_a_sample_are_those_of_a_plain_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.write_captions(tmp_path / "captions", 4_000, 4_000)
    import pyarrow.parquet as pq

    captions = pq.read_table(tmp_path / "captions")["caption"].combine_chunks()
    tokens = tokenise(normalise(captions))
    words, rows = tokens.texts.to_pylist(), tokens.rows.tolist()
    pairs = zip(words, words[1:], rows, rows[1:], strict=False)
    plain = {*words, *((a, b) for a, b, one, other in pairs if one == other)}

    found = as_json(capsys, "--rows", "4000", "--sample", str(tmp_path / "captions"))

    assert found["totals"]["distinct_ngrams"] == pytest.approx(len(plain), rel=0.02)


def test_a_sample_with_images_tells_their_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [picture(300, 200), picture(100, 200), b"no image"]
    pairs = [(f"{n:09d}", image, f"a red shoe {n}") for n, image in enumerate(images * 8)]
    write_shard(tmp_path / "shards" / "00000", pairs)

    options = ("--rows", "1e6", "--sample", str(tmp_path / "shards"), "--words", "9")
    found = as_json(capsys, *options)["corpus"]

    assert found["image_bytes"] == pytest.approx(np.mean([len(image) for image in images[:2]]))
    assert found["megapixels"] == pytest.approx(0.04)
    assert found["tokens"] == 9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rows", "none"), "must be a number above 0, got 'none'"),
        (("--rows", "1e9", "--decoded", "2"), "must be a share of at most 1"),
        (("--rows", "1e9", "--image-kb", "57"), "--megapixels must be given with --image-kb"),
        (("--rows", "1e9", "--constants", "none.toml"), "constants none.toml must be a file"),
        (("--rows", "1e9", "--sample", "nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["plan", *options])
    except SystemExit as ended:
        code = int(str(ended.code))

    assert code == 2
    assert sentence in capsys.readouterr().err
