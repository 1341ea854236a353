"""A sample can be told what it shows and what share of it is wrong; the default is as ever."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from pipelines.mixture import COMBINATIONS, HELD_OUT, WRONG_COLOUR, WRONG_SHAPE, Mixture, partner_of
from pipelines.noise import alt_text, plan_rows
from pipelines.sample import write_sample
from pipelines.scene import COLOURS, SHAPES

NOISE = {"partner": 0.4, "other_image": 0.2, "file_name": 0.05}
BEFORE = "9b00619237511953a654f548452266c57fb7baf35dfc7105725c4e554d0633bc"
"""SHA-256 of a sample's files as they were before mixtures could be asked for."""


def named(text: str | None) -> tuple[list[str], list[str]]:
    words = (text or "").lower().split()
    return [w for w in words if w in COLOURS], [w for w in words if w in SHAPES]


def read(folder: Path) -> list[dict[str, Any]]:
    return [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]


def test_the_default_sample_has_the_bytes_that_it_had(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", rows=170, rows_per_shard=80)

    digest = hashlib.sha256()
    for path in sorted((tmp_path / "sample").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    assert digest.hexdigest() == BEFORE


def test_noise_comes_in_the_shares_asked_for_and_the_rest_is_true() -> None:
    rows = plan_rows(1000, 3, Mixture(shares=NOISE))

    assert Counter(row.noise for row in rows) == {
        "clean": 350,
        "partner": 400,
        "other_image": 200,
        "file_name": 50,
    }
    for row in rows:
        pair = (row.scene.colour, row.scene.shape)
        said = {"clean": pair, "partner": partner_of(*pair)}.get(row.noise)
        if said:
            assert named(alt_text(row)) == ([said[0]], [said[1]])


def test_a_partner_is_always_the_same_and_never_oneself() -> None:
    for colour, shape in COMBINATIONS["all"]:
        assert partner_of(colour, shape) == (WRONG_COLOUR[colour], WRONG_SHAPE[shape])
        assert partner_of(colour, shape) != (colour, shape)


def test_held_out_combinations_are_in_no_picture_and_in_no_caption() -> None:
    rows = plan_rows(2000, 0, Mixture(shares=NOISE, combinations="seen"))

    shown = {(row.scene.colour, row.scene.shape) for row in rows}
    told = {(c[0], s[0]) for c, s in (named(alt_text(row)) for row in rows) if c and s}
    assert shown == COMBINATIONS["seen"]
    assert not told & set(HELD_OUT)
    assert len(HELD_OUT) == 8
    assert {shape for _, shape in HELD_OUT} == {*SHAPES}


def test_held_out_combinations_alone_can_be_asked_for() -> None:
    rows = plan_rows(200, 0, Mixture(shares={}, combinations="held-out"))

    assert {(row.scene.colour, row.scene.shape) for row in rows} == set(HELD_OUT)


def test_noise_does_not_change_the_pictures(tmp_path: Path) -> None:
    for name, shares in (("a", NOISE), ("b", {})):
        mixture = Mixture(shares=shares, combinations="seen", side_px=32)
        write_sample(tmp_path / name, rows=40, mixture=mixture)

    a, b = read(tmp_path / "a"), read(tmp_path / "b")
    assert [row["sha256"] for row in a] == [row["sha256"] for row in b]
    assert [row["truth_caption"] for row in a] == [row["caption"] for row in b]


def test_captions_are_put_in_as_few_ways_as_asked_for() -> None:
    rows = plan_rows(300, 0, Mixture(shares={}, wordings=4))

    assert {row.scene.wording for row in rows} == {0, 1, 2, 3}


def test_pictures_are_as_small_and_shapes_as_large_as_asked_for(tmp_path: Path) -> None:
    words = ["sample", "--output", str(tmp_path / "s"), "--rows", "30", "--side-px", "32"]
    assert main([*words, "--size", "large", "--noise", "partner=0.5"]) == 0

    rows = read(tmp_path / "s")
    assert all(32 <= min(row["width"], row["height"]) <= 34 for row in rows)
    assert {row["size"] for row in rows} == {"large"}
    assert Counter(row["noise"] for row in rows) == {"clean": 15, "partner": 15}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--noise", "partner=0.8", "--noise", "html=0.3"], "shares of together 1 at most, got"),
        (["--noise", "partner=-1"], "noise must be shares of together 1 at most, got partner=-1"),
        (["--noise", "partner=nan"], "noise must be shares of together 1 at most, got partner=nan"),
        (["--noise", "duplicate=0.1"], "noise must be of spurious, other_image"),
        (["--combinations", "most"], "combinations must be all, seen, held-out, got 'most'"),
        (["--size", "huge"], "size must be small or large, got 'huge'"),
        (["--wordings", "14"], "wordings must be 1 to 13, got 14"),
        (["--side-px", "8"], "side-px must be 24 to 480, got 8"),
    ],
)
def test_what_cannot_be_mixed_is_told_in_a_sentence(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "--output", str(tmp_path / "s"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
