"""Pairs have the statistics that the paper's definition gives them."""

import pytest

pytest.importorskip("torch", reason="needs the extra train")

import torch

from train.experiments.simulation.pairs import (
    Purpose,
    draw_pairs,
    draw_world,
    misalign,
    random_stream,
)
from train.experiments.simulation.setting import Setting

SETTING = Setting(num_inputs=300, num_clean=500, num_raw=4000, spurious=(0.0, 0.2, 0.5))
WORLD = draw_world(SETTING, random_stream(3, 0, Purpose.WORLD, "cpu"))
PAIRS = draw_pairs(SETTING, 500, 4000, WORLD, random_stream(3, 0, Purpose.TRAINING, "cpu"))


def test_dictionaries_are_orthonormal_and_unlike() -> None:
    for dictionary in (WORLD.image, WORLD.text):
        torch.testing.assert_close(dictionary.T @ dictionary, torch.eye(50), atol=1e-5, rtol=0)
    assert (WORLD.image.T @ WORLD.text).abs().max() < 0.5


def test_features_are_present_and_noise_is_spread_as_often_as_they_should() -> None:
    noise = PAIRS.images.float() - PAIRS.codes @ WORLD.image.T
    text_noise = PAIRS.texts[2].float() - PAIRS.named[2] @ WORLD.text.T

    assert float(PAIRS.codes.mean()) == pytest.approx(0.1, abs=0.004)
    assert float(noise.var()) == pytest.approx(1 / 50, rel=0.01)
    assert float(text_noise.var()) == pytest.approx(1 / 50, rel=0.01)
    assert abs(float((noise * text_noise).mean())) < 1e-4


def test_a_share_of_present_features_is_named_as_one_of_their_partners() -> None:
    true, named = PAIRS.codes[500:], PAIRS.named[:, 500:]

    assert torch.equal(PAIRS.named[:, :500], PAIRS.codes[:500].expand(3, -1, -1))
    assert torch.equal(named[0], true)
    for world, share in ((1, 0.2), (2, 0.5)):
        only = true.sum(dim=1) == 1  # nothing else can name the feature again
        missed = ((1 - named[world]) * true)[only].sum() / true[only].sum()
        assert float(missed) == pytest.approx(share, abs=0.04)
        image, wrong = ((named[world] == 1) & (true == 0)).nonzero().unbind(dim=1)
        for row, feature in zip(image[:300].tolist(), wrong[:300].tolist(), strict=True):
            shown = true[row].nonzero().flatten().tolist()
            assert any(feature in WORLD.partners[one].tolist() for one in shown)


def test_each_feature_has_partners_other_than_itself_and_names_all_of_them() -> None:
    codes = torch.eye(50).repeat(200, 1)

    named = misalign(codes, WORLD.partners, (0.999999,), random_stream(5, 0, Purpose.TEST, "cpu"))

    for feature in range(50):
        partners = WORLD.partners[feature].tolist()
        told = named[0, feature::50].sum(dim=0)
        assert feature not in partners
        assert len(set(partners)) == 3
        assert sorted(told.nonzero().flatten().tolist()) == sorted(partners)
        assert float(told[partners].min()) > 40


def test_a_larger_share_adds_mistakes_and_takes_none_back() -> None:
    right = [PAIRS.named[world, 500:] * PAIRS.codes[500:] for world in range(3)]

    lost_then_found = ((right[1] == 0) & (right[2] == 1) & (PAIRS.codes[500:] == 1)).sum()

    # a feature may come back as another's partner, and only so
    assert float(lost_then_found / PAIRS.codes[500:].sum()) < 0.03


def test_seeds_trials_and_purposes_have_numbers_of_their_own() -> None:
    keys = [(0, 0, Purpose.TEST), (1, 0, Purpose.TEST), (0, 1, Purpose.TEST), (0, 0, Purpose.FRESH)]

    drawn = {float(torch.rand(1, generator=random_stream(*key, "cpu"))) for key in [*keys, *keys]}

    assert len(drawn) == len(keys)
