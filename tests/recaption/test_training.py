"""Learning: both models from pairs, and the same weights whatever kills the run."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from filters.rule import RecipeError
from tests.recaption.drawings import encoded

torch = pytest.importorskip("torch", reason="needs the extra recaption")
pytest.importorskip("transformers", reason="needs the extra recaption")

from PIL import Image  # noqa: E402

from recaption import judging  # noqa: E402
from recaption.blip import Blip  # noqa: E402
from recaption.config import BlipConfig  # noqa: E402
from recaption.feed import Feed  # noqa: E402
from recaption.learning import (  # noqa: E402
    Calibration,
    Captioner,
    Filter,
    Learning,
    Pretrain,
    Vocabulary,
)
from recaption.pairs import Pair, read_corpus  # noqa: E402
from recaption.stages import learning_rate, part_of  # noqa: E402
from recaption.training import make_tokenizer, train  # noqa: E402
from recaption.weights import open_model  # noqa: E402

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 210), "white": (240,) * 3}
TINY = BlipConfig(
    image_px=8,
    patch_px=4,
    convolutions=True,
    vision_width=16,
    vision_layers=1,
    vision_heads=2,
    text_width=16,
    text_layers=1,
    text_heads=2,
    embed_width=8,
    max_tokens=12,
    vocabulary=1,
    dropout=0.1,
)
FAST = {"batch": 16, "learning_rate": 1e-2, "warmup_steps": 2, "crop_share": 0.8}
SETTINGS = Learning(
    model=TINY,
    vocabulary=Vocabulary(size=60),
    pretrain=Pretrain(steps=8, queue=24, alpha_steps=4, **FAST),
    captioner=Captioner(steps=6, **FAST),
    filter=Filter(steps=6, **FAST),
    calibration=Calibration(precision=0.6),
    held_out_share=0.25,
    checkpoint_steps=3,
)


def pairs(prefix: str, count: int) -> list[Pair]:
    """Squares of one colour, which their captions name."""
    chance = np.random.default_rng(len(prefix))
    made = []
    for number in range(count):
        name = list(COLOURS)[number % len(COLOURS)]
        shade = np.clip(np.array(COLOURS[name]) + chance.normal(0, 8, 3), 0, 255).astype(int)
        image = encoded(Image.new("RGB", (8, 8), tuple(shade.tolist())))
        made.append((f"{prefix}{number}", image, f"{('a', 'one')[number // 4 % 2]} {name} square"))
    return made


def learn(folder: Path, settings: Learning = SETTINGS) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    report = train(settings, pairs("w", 30), pairs("h", 40), folder, say=said.append, device="cpu")
    return report, said


def weights(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name / "model.safetensors").read_bytes() for name in ("captioner", "filter")
    }


def assert_same(folder: Path, other: Path) -> None:
    assert weights(folder) == weights(other)
    assert (folder / "training.json").read_text() == (other / "training.json").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    learn(folder)
    return folder


def test_both_models_are_written_apart_with_what_they_learnt_from(whole: Path) -> None:
    report = json.loads((whole / "training.json").read_text())

    captioner, judge = open_model(str(whole / "captioner")), open_model(str(whole / "filter"))
    assert captioner.model.config.parts == ("decoder",)
    assert judge.model.config.parts == ("encoder",)
    assert captioner.digest == report["weights_sha256"]["captioner"]
    assert sum(report["pairs"].values()) == 70
    assert report["pairs"]["noisy"] == 30
    assert set(report["losses"]) == {"pretrain", "captioner", "filter", "held_out"}
    assert set(report["losses"]["pretrain"]) == {"itc", "itm", "lm"}
    calibration = json.loads((whole / "filter" / "calibration.json").read_text())
    assert calibration == report["calibration"]
    assert calibration["num_positives"] == report["pairs"]["held_out"]


def test_the_same_pairs_and_settings_give_the_same_weights(whole: Path, tmp_path: Path) -> None:
    torch.rand(7)  # chance that others use up changes nothing

    _, said = learn(tmp_path)
    again, resumed = learn(tmp_path)

    assert weights(tmp_path) == weights(whole)
    assert any(line.startswith("pretrain: step 8 of 8, loss ") for line in said)
    assert [line.split(": ")[1] for line in resumed] == ["finished before"] * 3
    assert again == json.loads((whole / "training.json").read_text())


def test_another_seed_gives_other_weights(whole: Path, tmp_path: Path) -> None:
    learn(tmp_path, replace(SETTINGS, seed=1, pixels_in_file=True))

    assert weights(tmp_path) != weights(whole)


def test_a_killed_run_goes_on_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from recaption import stages\n"
        "from tests.recaption.test_training import learn\n"
        "save = stages.torch.save\n"
        "def slow(stored, file):\n"
        "    save(stored, file)\n"
        "    if stored['step'] == 6:\n"
        "        print('now', flush=True)\n"
        "        time.sleep(60)\n"
        "stages.torch.save = slow\n"
        "learn(Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
        text=True,
    ) as run:
        assert run.stdout
        assert run.stdout.readline() == "now\n"
        run.send_signal(signal.SIGKILL)

    _, said = learn(tmp_path)

    assert said[0] == "pretrain: resumed at step 3"
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("section", ["captioner", "filter"])
def test_a_run_stopped_in_a_later_stage_goes_on_to_the_same_weights(
    whole: Path, tmp_path: Path, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(stored: dict[str, Any], file: BinaryIO) -> None:
        if section in file.name and stored["step"] == 6:
            raise KeyboardInterrupt
        save(stored, file)

    save = torch.save
    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path)
    monkeypatch.undo()

    _, said = learn(tmp_path)

    assert f"{section}: resumed at step 3" in said
    assert_same(tmp_path, whole)


def test_the_filter_learns_which_caption_is_right(tmp_path: Path) -> None:
    quick = {"batch": 16, "learning_rate": 1e-2, "warmup_steps": 10, "crop_share": 1.0}
    settings = replace(
        SETTINGS,
        model=replace(TINY, dropout=0.0),
        pretrain=Pretrain(steps=100, **quick),
        captioner=Captioner(steps=10, **quick),
        filter=Filter(steps=30, **quick),
    )

    report, _ = learn(tmp_path, settings)

    assert report["calibration"]["auc"]["shuffled"] > 0.8


def test_wrong_captions_differ_and_the_near_ones_share_most_words() -> None:
    captions = ["a red star", "a blue star", "on the grass", "on the wall", "a red star"]
    image = pairs("w", 1)[0][1]
    corpus = read_corpus([(text, image, text) for text in captions], [], 8)
    tokenizer = make_tokenizer(Vocabulary(size=80), captions * 2, 8)
    model = Blip(replace(TINY, vocabulary=len(tokenizer.vocabulary))).eval()
    feed = Feed(corpus, tokenizer, torch.device("cpu"))
    asked: list[list[str]] = []

    def match(*told: Any) -> Any:
        asked.append([captions[row] for row in told[-1]])
        return np.zeros(5)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judging, "match_probabilities", match)
        judging.judge_own_and_wrong(model, feed, tokenizer.specials, corpus.noisy, 0)

    own, shuffled, near = asked
    assert own == captions
    assert all(wrong != right for wrong, right in zip(shuffled, captions, strict=True))
    assert near == ["a blue star", "a red star", "on the wall", "on the grass", "a blue star"]


def test_a_loss_that_is_not_finite_is_one_clear_error(tmp_path: Path) -> None:
    wild = replace(
        SETTINGS, pretrain=Pretrain(steps=8, batch=16, learning_rate=1e30, warmup_steps=0)
    )

    with pytest.raises(RecipeError, match=r"must be finite.*lower pretrain\.learning_rate"):
        learn(tmp_path, wild)

    assert not (tmp_path / "captioner").exists()


def test_a_folder_of_another_run_is_refused(whole: Path) -> None:
    with pytest.raises(RecipeError, match=r"pretrain\.pt of other settings or pairs; remove it"):
        learn(whole, replace(SETTINGS, seed=2))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pretrain.pt").write_bytes(b"half a checkpoint")

    with pytest.raises(RecipeError, match=r"must be one that training wrote, got .*pretrain\.pt"):
        learn(tmp_path)


def test_the_learning_rate_rises_and_falls() -> None:
    stage = Captioner(steps=12, warmup_steps=4, learning_rate=1.0)

    rates = [learning_rate(stage, step) for step in range(12)]
    linear = [learning_rate(replace(stage, decay="linear"), step) for step in range(12)]

    assert rates[:5] == [0.25, 0.5, 0.75, 1, 1]
    assert rates[8] == pytest.approx(0.5)
    assert linear[4:] == [1 - done / 8 for done in range(8)]
    assert learning_rate(replace(stage, decay="none"), 11) == 1


def test_a_part_writes_as_the_whole_does() -> None:
    torch.manual_seed(0)
    model = Blip(replace(TINY, vocabulary=20)).eval()
    writer = part_of(model, encoder=False, decoder=True).eval()
    ids, states = torch.randint(7, 20, (2, 5)), torch.randn(2, 5, 16)

    with torch.inference_mode():
        expected = model.logits(ids, torch.ones(2, 5), states)

        assert torch.equal(writer.logits(ids, torch.ones(2, 5), states), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(TINY, image_px=9, patch_px=3), r"patch_px must be a power of 2 .*, got 3"),
        (lambda: Pretrain(batch=1), r"pretrain\.batch must be 2 or more, got 1"),
        (lambda: Filter(crop_share=0), r"filter\.crop_share must be above 0"),
        (lambda: Captioner(decay="slow"), r"captioner\.decay must be one of cosine, linear, none"),
        (lambda: Pretrain(alpha=2), r"pretrain\.alpha must be from 0 to 1, got 2"),
        (lambda: Calibration(prior=0), r"calibration\.prior must be above 0 and below 1, got 0"),
        (lambda: Learning(held_out_share=1), r"held_out_share must be above 0 and below 1, got 1"),
    ],
)
def test_a_setting_out_of_its_bounds_is_named(make: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()
