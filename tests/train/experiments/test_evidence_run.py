"""An experiment goes from a grid to a page through the project's jobs, and goes on when killed."""

from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from recaption.files import read_json
from tests.shards import photo
from train.__main__ import main

GRID = """
name = "tiny"
seeds = [0]
rows = 200
test_rows = 120
arms = ["raw", "itm", "recaptioned", "clean"]
cells = [{partner = 0.4, clean = 120}]

[changes]
train = ["steps=8", "batch=16", "optimizer.warmup_steps=2", "model.text_width=16"]
recaption = ["pretrain.steps=3", "captioner.steps=3", "filter.steps=3", "pretrain.warmup_steps=1",
             "captioner.warmup_steps=1", "filter.warmup_steps=1", "model.text_width=16"]

[[variants]]
name = "half the steps"
factor = "steps"
arms = ["raw"]
train = ["steps=4"]

[[variants]]
name = "nucleus"
factor = "decoding"
arms = ["recaptioned"]
recaption = ["decode.strategy=nucleus"]
"""


IMAGES = """
arms = ["raw", "recaptioned"]
cells = [{partner = 0.3, clean = 60, foreign = 0}]
rows = 0
test_rows = 0
filter = "filter-images"
"""


@pytest.mark.slow
def test_an_experiment_takes_any_labelled_pictures(tmp_path: Path) -> None:
    seeds = count()
    for label in ("hat", "shirt", "t-shirt", "shoes"):
        for at in range(60):
            path = tmp_path / "photos" / label / f"{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo(next(seeds), 40, 30, "PNG"))
    lines = GRID.partition("[[variants]]")[0].splitlines()
    kept = [line for line in lines if not line.startswith(("rows", "test_rows", "arms", "cells"))]
    grid = "\n".join([*kept[:3], IMAGES, *kept[3:]])
    (tmp_path / "tiny.toml").write_text(grid)
    words = ["evidence", "--out", str(tmp_path / "out"), "--grid", str(tmp_path / "tiny.toml")]

    assert main([*words, "--images", str(tmp_path / "photos")]) == 0

    told = read_json(tmp_path / "out" / "evidence.json")
    assert [{*run["metrics"]} for run in told["runs"]] == [{"seen"}] * 2
    [captions] = told["captions"]
    assert captions["noise"]["rows"] == 4 * 60 * 0.8 - 60
    noise = 0.3 + 0.2 + 0.04 + 0.03
    assert captions["noise"]["true"] == pytest.approx(1 - noise, abs=4 / captions["noise"]["rows"])
    assert {point["label"] for point in told["maps"]["raw"]} == {"hat", "shirt", "t-shirt", "shoes"}


@pytest.mark.slow
def test_a_tiny_experiment_runs_to_its_end_and_goes_on_when_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(GRID)
    out = tmp_path / "out"
    words = ["evidence", "--out", str(out), "--grid", str(tmp_path / "tiny.toml")]

    assert main(words) == 0

    told = read_json(out / "evidence.json")
    found = {(run["arm"], run["variant"]): run["steps"] for run in told["runs"]}
    assert found == {
        **{(arm, None): 8 for arm in ("raw", "itm", "recaptioned", "clean")},
        ("raw", "half the steps"): 4,
        ("recaptioned", "nucleus"): 8,
    }
    assert {*told["runs"][0]["metrics"]} == {"seen", "held-out"}
    assert told["runs"][0]["metrics"]["seen"]["image_neuron_purity"] > 0
    assert told["captions"][0]["noise"]["true"] == pytest.approx(1 - 0.7)
    assert [len(places) for places in told["maps"].values()] == [120, 120]
    assert "What captions teach" in (out / "report" / "index.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    typed = (out / "commands.sh").read_text().splitlines()
    assert all(line in said for line in typed)

    for path in (out / "done").glob("*raw*"):
        path.unlink()  # as if it had been killed before
    assert main(words) == 0
    again = capsys.readouterr().out
    assert f"of {len(typed)} commands have ended before" in again
    assert "--on planted:" in again
    assert "pipelines sample" not in again
    same = read_json(out / "evidence.json")
    assert [run["metrics"] for run in same["runs"]] == [run["metrics"] for run in told["runs"]]

    assert main([*words, "--set", "rows=201"]) == 2
    assert "must be new or hold an experiment of the same grid" in capsys.readouterr().err
