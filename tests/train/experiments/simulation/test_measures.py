"""The measures say what slow plain versions of them say."""

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

import torch
from sklearn.metrics import silhouette_score

from train.experiments.simulation.captioner import Rewritten, name_features
from train.experiments.simulation.measures import (
    BINS,
    classify,
    histogram,
    magnitude,
    make_probe,
    purified,
    shares_of,
)
from train.experiments.simulation.pairs import Purpose, World, draw_pairs, draw_world, random_stream
from train.experiments.simulation.setting import Setting
from train.experiments.simulation.training import draw_weights, make_towers
from train.experiments.simulation.zero_shot import TASKS, draw_task

SETTING = Setting(
    num_inputs=60, num_features=20, num_neurons=30, num_clean=50, num_raw=80, batch=50, num_test=200
)
WORLD = draw_world(SETTING, random_stream(0, 0, Purpose.WORLD, "cpu"))


def weights() -> "torch.Tensor":
    """Return neurons near features, the nearer the later, two to each feature and more."""
    stream = torch.Generator().manual_seed(1)
    noise = torch.randn(3, 30, 60, generator=stream) * torch.tensor([0.05, 0.2, 0.3])[:, None, None]
    return WORLD.image.T[torch.arange(30) % 15] + noise


def test_features_and_magnitudes_are_those_that_a_plain_loop_finds() -> None:
    shares = shares_of(weights(), WORLD.image)

    for world, neurons in enumerate(weights()):
        pure, best = set(), [0.0] * 20
        for w in neurons:
            found = [abs(float(w @ WORLD.image[:, j])) / float(w.norm()) for j in range(20)]
            best = [max(pair) for pair in zip(best, found, strict=True)]
            if max(found) > 0.5:
                pure.add(found.index(max(found)))
        assert int(purified(shares)[world]) == len(pure)
        assert float(magnitude(shares)[world]) == pytest.approx(sum(best) / 20, rel=1e-5)
    assert len(set(purified(shares).tolist())) > 1


def test_a_histogram_counts_every_share_once() -> None:
    shares = torch.tensor([[[0.0, 0.049], [0.05, 0.999], [1.0, 0.5]]])

    counts = histogram(shares)[0]

    assert counts.sum() == 6
    assert {at: int(n) for at, n in enumerate(counts) if n} == {0: 2, 1: 1, BINS // 2: 1, 19: 2}


@pytest.mark.parametrize("name", TASKS)
def test_a_class_leads_by_what_its_task_says(name: str) -> None:
    stream = random_stream(0, 0, Purpose.TEST, "cpu")
    quiet = Setting(num_inputs=600, num_features=500, num_clean=50, batch=50, num_test=200)
    world = draw_world(quiet, random_stream(0, 0, Purpose.WORLD, "cpu"))

    task = draw_task(TASKS[name], quiet, world, stream)

    codes = (task.images.float() @ world.image).round()  # the noise has a deviation of 0.045
    counts = codes.view(200, 5, 100).sum(dim=2)
    right = counts[torch.arange(200), task.labels]
    others = counts.scatter(1, task.labels[:, None], 0.0)
    lead = right - others.max(dim=1).values
    assert float(lead.min()) == TASKS[name] if TASKS[name] else float(others.max()) == 0
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    named = (task.prompts.float() @ world.text).round()
    assert torch.equal(named, torch.eye(5).repeat_interleave(100, dim=1))
    assert len(task.labels.unique()) == 5


def test_a_probe_measures_as_scikit_learn_and_plain_products_do() -> None:
    probe = make_probe(SETTING, WORLD, random_stream(0, 0, Purpose.TEST, "cpu"))
    first = draw_weights(SETTING, 2, random_stream(0, 0, Purpose.WEIGHTS, "cpu"))
    first.image[1] = weights()[1]
    first.text[1] = WORLD.text.T[torch.arange(30) % 15]
    towers = make_towers(SETTING, first)

    found = probe(towers)

    for name, task in probe.tasks.items():
        _, images = classify(towers, task)
        for world in range(2):
            f = torch.relu(task.images.float() @ first.image[world].T)
            h = torch.relu(task.prompts.float() @ first.text[world].T)
            answers = [max(range(5), key=lambda k, x=x: float(x @ h[k])) for x in f]  # type: ignore[misc]
            right = np.mean([a == b for a, b in zip(answers, task.labels.tolist(), strict=True)])
            assert found[f"accuracy_{name}"][world] == pytest.approx(right, abs=0.011)
            plain = silhouette_score(images[world].numpy(), task.labels.numpy(), metric="cosine")
            assert found[f"silhouette_{name}"][world] == pytest.approx(plain, abs=1e-5)
    assert found["accuracy_lead_3"][1] > found["accuracy_lead_3"][0] + 0.3


def test_what_captions_name_is_told_beside_what_raw_texts_name() -> None:
    stream = random_stream(0, 0, Purpose.TRAINING, "cpu")
    setting = Setting(**{**vars_of(SETTING), "spurious": (0.0, 0.5)})
    pairs = draw_pairs(setting, 50, 80, WORLD, stream)
    perfect = (pairs.codes @ WORLD.text.T).expand(2, -1, -1)
    replaced = torch.zeros(2, 130, dtype=torch.bool)
    replaced[:, 50::2] = True

    none, half = name_features(pairs, Rewritten(pairs.texts, perfect, replaced), WORLD, (0.0, 0.5))

    true, named = pairs.codes[50:], pairs.named[1, 50:]
    wrong = [(n > 0) and (t == 0) for n, t in zip(named.flatten(), true.flatten(), strict=True)]
    assert half["wrong_raw"] == pytest.approx(int(sum(wrong)) / int(named.sum()), rel=1e-5)
    assert 0.3 < half["missed_raw"] < 0.6
    assert half["wrong_captions"] == half["missed_captions"] == none["wrong_raw"] == 0
    assert 0 < half["wrong_filtered"] < half["wrong_raw"]
    assert half["replaced_misaligned"] == pytest.approx(0.5, abs=0.2)
    assert math.isnan(none["replaced_misaligned"])
    assert none["replaced_aligned"] == 0.5


def vars_of(setting: Setting) -> dict[str, float]:
    return {name: getattr(setting, name) for name in setting.__slots__}


def test_a_world_has_its_own_dictionaries() -> None:
    other: World = draw_world(SETTING, random_stream(0, 1, Purpose.WORLD, "cpu"))

    assert float((other.image - WORLD.image).abs().max()) > 0.01
