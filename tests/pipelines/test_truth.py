"""Captions held against what a sample has planted."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions_page import write_captions_page
from pipelines.commands import main
from pipelines.truth import auc, compare
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.filter_run import FilterRun
from recaption.shards import generate_shard, score_shard
from tests.captioners import Echo, Lengths

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=9)


@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_in_the_right_order(
    positives: list[float], negatives: list[float]
) -> None:
    wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]

    assert auc(np.array(positives), np.array(negatives)) == pytest.approx(sum(wins) / len(wins))


def test_nothing_is_above_nothing() -> None:
    assert auc(np.array([]), np.array([1.0])) is None


def test_a_samples_captions_are_held_against_its_truth(tmp_path: Path) -> None:
    rows = ("--rows", "400", "--seed", "3")
    assert main(["sample", "--output", str(tmp_path / "in"), *rows]) == 0
    paths = ("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "1")
    assert main(["filter", *paths, "--set", "images.for_recaption=true"]) == 0
    run = FilterRun(tmp_path / "out")
    for shard in run.shards:
        generate_shard(run, shard, Echo(1, name="a red"))
        score_shard(run, shard, Lengths())
    choose_all(run, Choose(rule="raw"))

    told = compare(run)

    assert told is not None
    kinds = {kind["noise"]: kind for kind in told["kinds"]}
    planted = pq.read_table(tmp_path / "in" / "00000.parquet").to_pylist()
    red = [row["colour"] == "red" for row in planted if row["noise"] == "clean"]
    assert kinds["clean"]["raw"] == 1
    assert kinds["clean"]["synthetic"] == pytest.approx(np.mean(red), abs=0.02)
    assert 0.2 < kinds["spurious"]["raw"] < 0.8
    assert kinds["clean"]["stays_raw"] == kinds["clean"]["kept_before"] > 100
    assert kinds["file_name"]["kept_before"] == kinds["file_name"]["stays_raw"] == 0
    assert told["auc"]["file_name"] > 0.9
    page = write_captions_page(tmp_path / "out").read_text()
    assert "The input says what its images show" in page
