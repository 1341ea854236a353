"""Stages of learning: each trains one model on rows of a corpus, and can be killed at any time.

On one machine, with one number of threads, the same pairs and settings give the same weights,
killed and resumed or not: all chance of a step comes from its number.
"""

import hashlib
import itertools
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from filters.rule import RecipeError
from recaption.blip import Blip
from recaption.feed import Feed, Texts, autocast
from recaption.files import replacing
from recaption.learning import Pretrain, Stage
from recaption.losses import (
    Teacher,
    contrastive_loss,
    draw_negatives,
    matching_loss,
    writing_loss,
)
from recaption.momentum import Momentum
from recaption.pairs import batches
from recaption.wordpiece import Specials

LINES = 20
"""Lines of progress of a stage."""

Losses = dict[str, torch.Tensor]
Say = Callable[[str], None]


def contrast_and_match(
    model: Blip,
    states: torch.Tensor,
    texts: Texts,
    specials: Specials,
    teacher: Teacher | None = None,
) -> Losses:
    """Return ITC and ITM of images, by their states, and their captions."""
    image, text = model.project_image(states), model.encode_text(texts.ids, texts.mask)
    temperature = model.temperature
    itc = contrastive_loss(image, text, texts.caption, temperature, teacher)
    wrong = draw_negatives((image @ text.T / temperature).detach(), texts.caption)
    ids, mask = texts.starting(specials.enc), texts.mask
    # Text 2i and text 2i + 1 are about image i: its own caption, and a wrong one.
    both = torch.stack([torch.arange(len(ids), device=ids.device), wrong.text], 1).flatten()
    own, with_text = model.match(ids[both], mask[both], states).view(len(ids), 2, 2).unbind(1)
    with_image = model.match(ids, mask, states[wrong.image])
    return {"itc": itc, "itm": matching_loss(own, with_text, with_image, wrong.there)}


def write(model: Blip, states: torch.Tensor, texts: Texts, specials: Specials) -> Losses:
    """Return LM of images, by their states, and their captions."""
    ids = texts.starting(specials.dec)
    return {"lm": writing_loss(model.logits(ids, texts.mask, states), ids, texts.mask)}


@dataclass(frozen=True, slots=True)
class Trainer:
    """Runs stages over one corpus, and keeps them in one folder."""

    feed: Feed
    specials: Specials
    folder: Path
    checkpoint_steps: int
    seed: int
    say: Say

    def run(
        self, stage: Stage, model: Blip, rows: NDArray[np.int64], mark: str
    ) -> dict[str, float]:
        """Train a model in place, from where a killed run of the same left off.

        Args:
            stage: What to learn, and how.
            model: With the parts that the stage needs.
            rows: Of the corpus, to learn from.
            mark: Fingerprint of all that decides the result.

        Returns:
            The losses at the end, as means over the last steps.

        Raises:
            RecipeError: The loss is no longer finite, or the folder holds another run.
        """
        progress = _Progress(self, stage, model, mark)
        step = progress.resume()
        model.train()
        deals = batches(rows, stage.batch, self.seed)
        for dealt in itertools.islice(deals, step, stage.steps):
            progress.step(step, dealt)
            step += 1
            last = step == stage.steps
            if last or step % max(1, stage.steps // LINES) == 0:
                progress.tell(step)
            if last or step % self.checkpoint_steps == 0:
                progress.store(step)
        model.eval()
        return progress.told


class _Progress:
    """A stage under way: the model, its optimizer, and what is told and stored of them."""

    def __init__(self, trainer: Trainer, stage: Stage, model: Blip, mark: str) -> None:
        self.trainer, self.stage, self.model, self.mark = trainer, stage, model, mark
        self.file = trainer.folder / f"{stage.section}.pt"
        self.slow: Momentum | None = None
        if isinstance(stage, Pretrain) and stage.queue:
            self.slow = Momentum(model, stage.queue, stage.momentum)
        kinds: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for parameter in model.parameters():
            kinds[parameter.ndim > 1].append(parameter)
        groups = [
            {"params": kinds[True], "weight_decay": stage.weight_decay},
            {"params": kinds[False], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, stage.learning_rate, fused=True)
        self.told: dict[str, float] = {}
        self.sums: Losses = {}
        self._begin(0)

    def resume(self) -> int:
        """Take up what was stored, and return how many steps that are."""
        if not self.file.exists():
            return 0
        stored = _read(self.file)
        if stored.get("mark") != self.mark:
            raise RecipeError(
                f"a folder to train in must be empty or of the same run, got {self.file} of other "
                "settings or pairs; remove it or name another folder"
            )
        self.model.load_state_dict(stored["model"])
        if stored["optimizer"]:
            self.optimizer.load_state_dict(stored["optimizer"])
        if self.slow and stored["slow"]:
            self.slow.load_state_dict(stored["slow"])
        step = int(stored["step"])
        told = "finished before" if step == self.stage.steps else f"resumed at step {step:,}"
        self.trainer.say(f"{self.stage.section}: {told}")
        self._begin(int(stored["first"]))
        self.sums, self.told = stored["sums"], stored["told"]
        return step

    def step(self, step: int, rows: NDArray[np.int64]) -> None:
        """Learn from the pairs of rows; step 0 is the first."""
        stage, model, feed = self.stage, self.model, self.trainer.feed
        seed = _seed(self.trainer.seed, stage.section, step)
        torch.manual_seed(seed)  # of dropout and negatives
        pixels, texts = feed.pixels(rows, stage.crop_share, seed), feed.texts(rows)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(stage, step)
        if model.config.encoder:
            model.clamp_temperature()
        with autocast(feed.device):
            losses = self._losses(pixels, texts, step)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        if stage.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), stage.clip_norm)
        self.optimizer.step()
        self.pairs += len(rows)
        for name, value in losses.items():
            so_far = self.sums.get(name)
            self.sums[name] = value.detach() if so_far is None else value.detach() + so_far

    def _losses(self, pixels: torch.Tensor, texts: Texts, step: int) -> Losses:
        model, stage, specials = self.model, self.stage, self.trainer.specials
        states = model.encode_image(pixels)
        losses: Losses = {}
        if model.config.encoder:
            teacher = None
            if self.slow and isinstance(stage, Pretrain):
                self.slow.follow(model)
                alpha = stage.alpha * min(1, step / stage.alpha_steps)
                teacher = self.slow.teach(pixels, texts.ids, texts.mask, texts.caption, alpha)
            losses |= contrast_and_match(model, states, texts, specials, teacher)
        if model.config.decoder:
            losses |= write(model, states, texts, specials)
        return losses

    def tell(self, step: int) -> None:
        """Say how it goes: the mean losses since it was last said."""
        self.told = means = self._means(step)
        speed = self.pairs / max(time.monotonic() - self.since, 1e-9)
        parts = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        self.trainer.say(
            f"{self.stage.section}: step {step:,} of {self.stage.steps:,}, "
            f"loss {sum(means.values()):.3f} ({parts}), {speed:,.0f} pairs/s"
        )
        self._begin(step)

    def _means(self, step: int) -> dict[str, float]:
        means = {name: float(value) / (step - self.first) for name, value in self.sums.items()}
        if not np.isfinite(list(means.values())).all():
            section = self.stage.section
            raise RecipeError(
                f"the loss must be finite, got {sum(means.values())} in steps {self.first + 1:,} "
                f"to {step:,} of {section}; lower {section}.learning_rate or raise "
                f"{section}.warmup_steps"
            )
        return means

    def store(self, step: int) -> None:
        """Put everything that the rest depends on into the checkpoint, whole or not at all."""
        if self.sums:
            self._means(step)
        unfinished = step < self.stage.steps
        stored = {
            "mark": self.mark,
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict() if unfinished else None,
            "first": self.first,
            "sums": self.sums,
            "told": self.told,
            "slow": self.slow.state_dict() if self.slow and unfinished else None,
        }
        with replacing(self.file) as part, part.open("wb") as file:
            torch.save(stored, file)
            file.flush()
            os.fsync(file.fileno())

    def _begin(self, step: int) -> None:
        self.first, self.pairs, self.since = step, 0, time.monotonic()
        self.sums = {}


def learning_rate(stage: Stage, step: int) -> float:
    """Return the learning rate of a step, 0 the first: it rises to its height, and falls."""
    return stage.learning_rate * schedule(step, stage.steps, stage.warmup_steps, stage.decay)


def schedule(step: int, steps: int, warmup_steps: int, decay: str) -> float:
    """Return what a step's learning rate, 0 the first, is of the largest one.

    Args:
        step: It rises to 1 within the first `warmup_steps`, and falls then.
        steps: At which it would be 0.
        warmup_steps: 0 or more.
        decay: One of `recaption.learning.DECAYS`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    falls = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "none": 1.0}
    return falls[decay]


def part_of(model: Blip, *, encoder: bool, decoder: bool) -> Blip:
    """Copy a model, without its encoder or its decoder."""
    part = Blip(replace(model.config, encoder=encoder, decoder=decoder))
    weights: Mapping[str, torch.Tensor] = model.state_dict()
    part.load_state_dict({name: weights[name] for name in part.state_dict()})
    return part.to(model.text.words.weight.device)


def _seed(seed: int, section: str, step: int) -> int:
    digest = hashlib.sha256(f"{seed} {section} {step}".encode()).digest()
    return int.from_bytes(digest[:7])


def _read(file: Path) -> dict[str, Any]:
    here = os.fspath(file)
    try:
        stored = torch.load(here, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise all kinds
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RecipeError(
            f"a checkpoint must be one that training wrote, got {file}: {told}; remove it"
        ) from None
    return stored if isinstance(stored, dict) else {}
