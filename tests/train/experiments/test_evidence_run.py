"""An experiment goes from a grid to a page through the project's jobs, and goes on when killed."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from recaption.files import read_json
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
