"""Fine-tuning: a tower that tells no colours apart learns to; batch norms keep what they knew."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from filters.rule import RecipeError
from recaption.pictures import read_rgb
from tests.train.evaluation.colours import ColourEncoder, write_folders

torch = pytest.importorskip("torch", reason="needs the extra train")

from train.evaluation.fine_tune import Tuning, _Images, fine_tune  # noqa: E402  # needs torch
from train.evaluation.splits import Splits, open_splits  # noqa: E402


class Blind(ColourEncoder):
    """An encoder whose tower sees brightness alone, and has a batch norm and a dropout."""

    num_features = 4

    def __init__(self) -> None:
        self.made: list[torch.nn.Module] = []

    def image_tower(self) -> "torch.nn.Module":
        mix = torch.nn.Conv2d(3, 4, 1)
        torch.nn.init.constant_(mix.weight, 1 / 765)
        layers = [Scale(), mix, torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.1)]
        tower = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.made.append(tower)
        return tower

    def pixels(self, images: Sequence[bytes]) -> "torch.Tensor":
        squares = [np.asarray(read_rgb(one)).transpose(2, 0, 1) for one in images]
        return torch.from_numpy(np.stack(squares))


class Scale(torch.nn.Module):
    """Makes numbers of pixels."""

    def forward(self, images: "torch.Tensor") -> "torch.Tensor":
        return images.float()


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder: Path = tmp_path_factory.mktemp("colours")
    write_folders(folder / "train", ["red", "green", "blue"], each=6)
    write_folders(folder / "test", ["red", "green", "blue"], each=3, noise=3)
    (folder / "test" / "red" / "bad.png").write_bytes(b"no image")
    return open_splits(folder)


def test_all_layers_learn_what_the_head_alone_cannot(splits: Splits) -> None:
    few = Tuning(steps=1, batch=6, head_rate=0.1, rate=1e-9)
    many = Tuning(steps=150, batch=6, head_rate=0.1, rate=0.1)

    before, after = fine_tune(Blind(), splits, few), fine_tune(Blind(), splits, many)

    assert before.metrics["acc1"] < 0.7
    assert after.metrics["acc1"] == 1
    assert after.counts == {"train": 18, "images": 9, "classes": 3}
    assert after.faults == {"undecodable": 1}
    assert after.settings["steps"] == 150


def test_the_same_training_gives_the_same_figures_and_leaves_chance_alone(splits: Splits) -> None:
    tuning = Tuning(steps=5, batch=4, head_rate=0.1, rate=0.05)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)

    first, second = fine_tune(Blind(), splits, tuning), fine_tune(Blind(), splits, tuning)

    assert torch.rand(1) == expected
    assert first.metrics == pytest.approx(second.metrics, nan_ok=True)
    assert first.intervals == second.intervals


def test_rates_fall_along_a_cosine_for_the_head_and_then_for_all(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[float, int]] = []
    step = torch.optim.SGD.step

    def recorded(optimizer: "torch.optim.SGD", *rest: object) -> object:
        group = optimizer.param_groups[0]
        rates.append((group["lr"], len(group["params"])))
        return step(optimizer, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", recorded)

    fine_tune(Blind(), splits, Tuning(steps=4, batch=4, head_rate=0.2, rate=0.1))

    falling = [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]
    expected = [(0.2 * one, 2) for one in falling] + [(0.1 * one, 6) for one in falling]
    assert [rate for rate, _ in rates] == pytest.approx([rate for rate, _ in expected])
    assert [weights for _, weights in rates] == [weights for _, weights in expected]


def test_about_half_of_the_images_are_mirrored() -> None:
    class Sided(Blind):
        def pixels(self, images: Sequence[bytes]) -> "torch.Tensor":
            return torch.tensor([0, 255], dtype=torch.uint8).expand(len(images), 3, 2, 2).clone()

    images = _Images(Sided(), [b""] * 200, np.arange(200))

    pixels, labels = next(images.batches(200))

    assert sorted(labels.tolist()) == list(range(200))
    assert 70 < int((pixels[:, 0, 0, 0] == 255).sum()) < 130


def test_batch_norms_keep_their_statistics(splits: Splits) -> None:
    encoder = Blind()

    fine_tune(encoder, splits, Tuning(steps=3, batch=4))

    for tower in encoder.made:
        norm = tower[2]
        assert norm.running_mean.tolist() == [0] * 4
        assert norm.num_batches_tracked == 0


def test_an_encoder_without_a_tower_is_refused(splits: Splits) -> None:
    with pytest.raises(RecipeError, match="must have an encoder with a tower to train"):
        fine_tune(ColourEncoder(), splits)


def test_divergence_is_told(splits: Splits) -> None:
    with pytest.raises(RecipeError, match="the loss of fine-tuning must be finite"):
        fine_tune(Blind(), splits, Tuning(steps=60, batch=4, head_rate=1e36))


def test_numbers_must_be_above_0() -> None:
    with pytest.raises(RecipeError, match="steps of fine-tuning must be above 0, got 0; raise it"):
        Tuning(steps=0)
