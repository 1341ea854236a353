"""Run one trial: raw texts, rewritten texts, and the controls that tell why they differ.

All arms of a trial begin with the same weights and see the same images in the same batches.  The
step at which they are compared is that at which the raw arm's world without spurious texts
(C_s = 0) has its largest mean magnitude: there is nothing to mend in it, so the rule cannot favour
raw or rewritten texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.experiments.simulation.captioner import (
    Captioner,
    Rewritten,
    name_features,
    rewrite,
    train_captioner,
)
from train.experiments.simulation.measures import Probe, histogram, make_probe, shares_of
from train.experiments.simulation.pairs import (
    Pairs,
    Purpose,
    World,
    draw_noise,
    draw_pairs,
    draw_world,
    random_stream,
)
from train.experiments.simulation.setting import Setting
from train.experiments.simulation.training import (
    Batch,
    Towers,
    draw_weights,
    make_towers,
    shuffled,
    train,
)
from train.experiments.simulation.zero_shot import MAIN_TASK

RAW, FILTERED = "raw", "filtered"
NOISY, DENOISED = "captions + noise", "raw - noise"
FRESH_RAW, FRESH_FILTERED = "raw, fresh", "filtered, fresh"
SHOWN = 0.3
"""The share of spurious features at which spaces and histograms are shown, as in the paper."""
NUM_DRAWN = 500
"""Embeddings that are drawn."""


@dataclass(slots=True)
class Outcome:
    """What a trial found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of each arm, share and measured step."""
    captions: list[dict[str, Any]] = field(default_factory=list)
    """Of each share: what the captions name, and how many raw texts they replace."""
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Of the texts' neurons at the share that is shown, by arm."""
    spaces: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Embeddings of test images there, by arm."""
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Of these images."""


@dataclass(slots=True)
class _Record:
    """Writes down the measures of arms, and keeps their weights at the step of comparison."""

    arms: Mapping[str, Sequence[float]]
    """The shares of spurious features of each arm's worlds, in the order of the worlds."""
    probe: Probe
    rows: list[dict[str, Any]]
    stop: int
    """The step; 0: still to be found, as that of the largest magnitude in the first world."""
    kept: list[Towers] = field(default_factory=list)
    """One, at the step so far."""
    kept_at: int = 0
    largest: float = -1.0

    def __call__(self, step: int, towers: Towers) -> None:
        found = self.probe(towers)
        worlds = [(arm, share) for arm, shares in self.arms.items() for share in shares]
        for at, (arm, share) in enumerate(worlds):
            told = {name: values[at] for name, values in found.items()}
            self.rows.append({"arm": arm, "spurious": share, "step": step, **told})
        first = found["magnitude"][0]
        if step == self.stop or (not self.stop and first > self.largest):
            self.largest, self.kept_at = first, step
            self.kept = [towers.at(towers.weights.clone())]


class Trial:
    """One trial of a setting; `run` goes through it."""

    def __init__(self, setting: Setting, seed: int, trial: int, device: str) -> None:
        self._setting, self._key, self._device = setting, (seed, trial), device
        self._world: World = draw_world(setting, self._stream(Purpose.WORLD))
        self._probe = make_probe(setting, self._world, self._stream(Purpose.TEST))
        self._outcome = Outcome()
        self._stop = 0

    def _stream(self, purpose: Purpose) -> torch.Generator:
        return random_stream(*self._key, purpose, self._device)

    def run(self, controls: Sequence[float] = ()) -> Outcome:
        """Compare raw and rewritten texts in all worlds, and run the controls in some.

        Args:
            controls: Those of the setting's shares of spurious features that have some; 0 first.
        """
        setting = self._setting
        pairs = draw_pairs(
            setting, setting.num_clean, setting.num_raw, self._world, self._stream(Purpose.TRAINING)
        )
        raw = self._learn(RAW, setting.spurious, self._batches(pairs))
        batches = shuffled(pairs.clean(), setting.batch, self._stream(Purpose.BATCHES))
        captioner = train_captioner(raw, batches, setting)
        rewritten = rewrite(raw, captioner, pairs)
        self._outcome.captions = name_features(pairs, rewritten, self._world, setting.spurious)
        after = self._batches(replace(pairs, texts=rewritten.texts))
        self._show({RAW: raw, FILTERED: self._learn(FILTERED, setting.spurious, after)})
        if controls:
            worlds = [setting.spurious.index(share) for share in controls]
            self._separate(worlds, pairs, rewritten)
            self._refresh(worlds, raw, captioner)
        return self._outcome

    def _batches(self, pairs: Pairs) -> Iterator[Batch]:
        return shuffled(pairs, self._setting.batch, self._stream(Purpose.BATCHES))

    def _learn(self, arm: str, shares: Sequence[float], batches: Iterator[Batch]) -> Towers:
        """Train an arm from scratch, and return it as it is at the step of comparison."""
        weights = draw_weights(self._setting, len(shares), self._stream(Purpose.WEIGHTS))
        record = _Record({arm: shares}, self._probe, self._outcome.rows, self._stop)
        train(make_towers(self._setting, weights), batches, self._setting, record)
        self._stop = record.kept_at
        return record.kept[0]

    def _separate(self, worlds: list[int], pairs: Pairs, rewritten: Rewritten) -> None:
        """Change the rows that the filter changed, to texts that are aligned or clear, not both."""
        setting, noise = self._setting, self._stream(Purpose.NOISE)
        shares = [setting.spurious[world] for world in worlds]
        spoilt, cleared = (pairs.texts[worlds] for _ in range(2))
        for at, world in enumerate(worlds):
            rows = rewritten.replaced[world]
            captions = rewritten.captions[world, rows]
            noisy = captions + draw_noise(len(captions), setting, noise)
            spoilt[at, rows] = noisy.to(captions.dtype)
            cleared[at, rows] = (pairs.named[world, rows] @ self._world.text.T).to(captions.dtype)
        for arm, texts in ((NOISY, spoilt), (DENOISED, cleared)):
            self._learn(arm, shares, self._batches(replace(pairs, texts=texts)))

    def _refresh(self, worlds: list[int], raw: Towers, captioner: Captioner) -> None:
        """Learn from samples that are never seen again, raw and rewritten side by side."""
        shares = tuple(self._setting.spurious[world] for world in worlds)
        setting = replace(self._setting, spurious=shares)
        models = raw[worlds], Captioner(captioner.towers[worlds])
        batches = fresh(setting, self._world, models, self._stream(Purpose.FRESH))
        weights = draw_weights(setting, 2 * len(shares), self._stream(Purpose.WEIGHTS))
        arms = {FRESH_RAW: shares, FRESH_FILTERED: shares}
        record = _Record(arms, self._probe, self._outcome.rows, self._stop)
        train(make_towers(setting, weights), batches, setting, record)

    def _show(self, arms: dict[str, Towers]) -> None:
        """Keep what is drawn of the arms: a histogram of neurons, and embeddings of images."""
        shares = self._setting.spurious
        world = [min(range(len(shares)), key=lambda at: abs(shares[at] - SHOWN))]
        task = self._probe.tasks[MAIN_TASK]
        self._outcome.labels = task.labels[:NUM_DRAWN].cpu().numpy()
        for arm, towers in arms.items():
            one = towers[world]
            text_shares = shares_of(one.weights.text, self._world.text)
            self._outcome.histograms[arm] = histogram(text_shares)
            self._outcome.spaces[arm] = one.images(task.images[:NUM_DRAWN])[0].cpu().numpy()


def fresh(
    setting: Setting, world: World, models: tuple[Towers, Captioner], stream: torch.Generator
) -> Iterator[Batch]:
    """Yield batches of new pairs without end: the worlds' raw texts, then the same rewritten."""
    num_clean = round(setting.batch * setting.num_clean / (setting.num_clean + setting.num_raw))
    while True:
        pairs = draw_pairs(setting, num_clean, setting.batch - num_clean, world, stream)
        rewritten = rewrite(*models, pairs)
        yield pairs.images, torch.cat([pairs.texts, rewritten.texts])
