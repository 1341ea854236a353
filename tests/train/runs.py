"""Runs over data so small that they take seconds, for tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.train.corpora import write_tars
from train.metrics import read_metrics

PATIENCE_S = 600
ROOT = Path(__file__).parents[2]
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
"""What starts two processes of a run."""
RECIPE = """
name = "tiny"
steps = 10
batch = 8
clip_norm = 1.0

[model]
image_tower = "vit"
image_px = 16
patch_px = 8
vision_width = 16
vision_layers = 1
vision_heads = 2
drop_path = 0.0
text_width = 16
text_layers = 1
text_heads = 2
max_tokens = 10
embed_width = 8
dropout = 0.1
temperature = 0.5

[vocabulary]
size = 60

[loader]
threads = 2
images = {resize_px = 20}

[optimizer]
name = "adamw"
learning_rate = 1e-2
warmup_steps = 2
weight_decay = 0.01

[validation]
held_out_share = 0.2
every_steps = 5

[checkpoints]
every_steps = 2
keep = 2

[log]
every_steps = 1
"""


def prepare(home: Path) -> Path:
    """Write a recipe, `tiny.toml`, and `shards`, and return their folder."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "tiny.toml").write_text(RECIPE)
    (home / "shards").mkdir()
    write_tars(home / "shards", (40, 20))
    return home


def arguments(home: Path, out: str, *more: str) -> list[str]:
    """Return the command line of a run over what `prepare` wrote."""
    where = ["--data", str(home / "shards"), "--out", str(home / out)]
    return ["run", str(home / "tiny.toml"), *where, *more]


def started(options: Sequence[str], launcher: Sequence[str] = ("-m",)) -> subprocess.Popen[str]:
    """Start `python -m train` in a process of one thread."""
    return subprocess.Popen(
        [sys.executable, *launcher, "train", *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a process that shall end well, and return what it printed."""
    with process:
        try:
            printed, errors = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, errors
    return printed


def losses(run: Path) -> dict[int, float]:
    """Return the loss of each step."""
    return {line["step"]: line["loss"] for line in read_metrics(run) if "loss" in line}


def validations(run: Path) -> dict[int, dict[str, Any]]:
    """Return what was made of held-out pairs, by step."""
    return {line["step"]: line["validation"] for line in read_metrics(run) if "validation" in line}
