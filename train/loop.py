"""The loop: a batch, its gradients, a step; what is told of it, and what is kept.

All chance of a step, such as dropout, comes from the seed and the step's number, and its batch from
the loader's position.  So a run that was killed and goes on from a checkpoint ends, on one CPU with
one number of threads, with the very bits of one that was not.
"""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from filters.rule import RecipeError
from train.checkpoints import Checkpoints, difference, read_checkpoint
from train.contrastive import contrastive_loss
from train.distributed import World
from train.dual_encoder import DualEncoder
from train.feed import Fed, Feed
from train.gradients import backward
from train.guards import Guard
from train.metrics import Metrics
from train.optimizers import set_learning_rate
from train.settings import Settings

LINES = 20
"""Lines of progress of a run."""

Validate = Callable[[DualEncoder], dict[str, float]]


@dataclass(slots=True)
class Loop:
    """A model that learns from batches."""

    settings: Settings
    model: nn.Module
    """What shares the encoder among processes, or the encoder itself."""
    encoder: DualEncoder
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints
    world: World
    facts: Mapping[str, Any]
    """What else decides a run, in plain values: digests of the data and of the vocabulary."""
    metrics: Metrics | None = None
    """Where metrics are written, by the first process."""
    validate: Validate | None = None
    kept: Callable[[], None] | None = None
    """Told of each checkpoint, in the first process."""
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.settings.batch)

    def resume(self) -> tuple[int, dict[str, Any] | None]:
        """Take up the last checkpoint, if there is one.

        Returns:
            Steps done, and the loader's position.

        Raises:
            RecipeError: It is of other settings, data or vocabulary.
        """
        steps = self.checkpoints.steps()
        if not steps:
            return 0, None
        stored = read_checkpoint(self.checkpoints.path(steps[-1]))
        self._refuse_other(stored)
        options = StateDictOptions(full_state_dict=True)
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=stored["model"],
            optim_state_dict=stored["optimizer"],
            options=options,
        )
        self.guard.load_state_dict(stored["guard"])
        return steps[-1], stored["position"]

    def _refuse_other(self, stored: Mapping[str, Any]) -> None:
        before = stored["settings"] | stored["facts"]
        differs = difference(before, self.settings.deciding() | dict(self.facts))
        if differs:
            raise RecipeError(
                "--out must name a new folder or hold a run of the same recipe, got one where "
                f"{differs}; name another, or add --overwrite to begin anew"
            )

    def run(self, feed: Feed, begun: int) -> None:
        """Learn from step `begun`, 0 the first, to the last one.

        Raises:
            RecipeError: The run has gone wrong, or a checkpoint cannot be written.
        """
        steps, watch = self.settings.steps, _Watch(self.settings.batch)
        silent = None if self.world.first else True  # None: where there is no terminal
        bar = tqdm(total=steps, initial=begun, unit="step", disable=silent)
        self.model.train()
        fed = feed.next() if begun < steps else None
        for step in range(begun, steps):
            assert fed is not None
            watch.waited_s += fed.waited_s
            loss = self._gradients(step, fed)
            upcoming = feed.next() if step + 1 < steps else None  # while a GPU still computes
            watch.told |= self._learn(step, loss)
            bar.update()
            self._tell(step + 1, fed, watch)
            self._keep(step + 1, fed)
            fed = upcoming
        bar.close()

    def _gradients(self, step: int, fed: Fed) -> torch.Tensor:
        """Return the loss, and leave the gradients on the weights."""
        settings, ranks = self.settings, self.world.ranks
        torch.manual_seed(_seed(settings.seed, self.world.rank, step))
        self.optimizer.zero_grad()
        batch, loss = fed.batch, settings.loss
        size = settings.microbatch or settings.batch // ranks
        groups = batch.texts if loss.mask_duplicates else None
        contrast = partial(contrastive_loss, smoothing=loss.smoothing, groups=groups)
        return backward(self.model, batch, size, contrast)

    def _learn(self, step: int, loss: torch.Tensor) -> dict[str, float]:
        """Take a step, if the gradients are sound, and return what can be told of it."""
        weights = [weight for weight in self.model.parameters() if weight.grad is not None]
        norm = get_total_norm([weight.grad for weight in weights])
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        rate = set_learning_rate(self.optimizer, self.settings.optimizer, step, self.settings.steps)
        told = {
            "loss": float(loss),
            "gradient_norm": float(norm),
            "learning_rate": rate,
            "temperature": math.exp(-self.encoder.log_scale.item()),
        }
        self.guard.check(step + 1, told["loss"], told["gradient_norm"])
        if self.settings.clip_norm:
            clip_grads_with_norm_(weights, self.settings.clip_norm, norm)
        self.optimizer.step()
        return told

    def _tell(self, step: int, fed: Fed, watch: "_Watch") -> None:
        """Write metrics, and print a line, where either is due."""
        steps = self.settings.steps
        spoken = step % max(1, steps // LINES) == 0
        watch.steps += 1
        if not (spoken or step == steps or step % self.settings.log.every_steps == 0):
            return
        told = watch.told | watch.speed()
        watch.restart()
        if self.metrics:
            self.metrics.write(step, told | {"bad": dict(fed.bad)})
        if self.world.first and spoken:
            bad = f", {sum(fed.bad.values()):,} bad samples" if fed.bad else ""
            _say(
                f"step {step:,} of {steps:,}: loss {told['loss']:.3f}, temperature "
                f"{told['temperature']:.3f}, {told['samples_per_s']:,.0f} pairs/s, "
                f"{told['waited_share']:.0%} of the time waiting for data{bad}"
            )

    def _keep(self, step: int, fed: Fed) -> None:
        """Validate, and write a checkpoint, where either is due."""
        settings, last = self.settings, step == self.settings.steps
        validated = self.validate and (last or step % settings.validation.every_steps == 0)
        score = None
        if self.validate and validated:
            told = self.validate(self.encoder)
            score = told["loss"]
            self.model.train()
            if self.metrics:
                self.metrics.write(step, {"validation": told})
            if self.world.first:
                parts = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
                _say(f"step {step:,}: held-out pairs: {parts}")
        if last or validated or step % settings.checkpoints.every_steps == 0:
            self._save(step, fed, score)

    def _save(self, step: int, fed: Fed, score: float | None) -> None:
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        model, optimizer = get_state_dict(self.model, self.optimizer, options=options)
        if self.world.first:
            stored = {
                "name": self.settings.name,
                "samples": step * self.settings.batch,
                "model": model,
                "optimizer": optimizer,
                "position": fed.position,
                "guard": self.guard.state_dict(),
                "settings": self.settings.deciding(),
                "facts": dict(self.facts),
            }
            self.checkpoints.save(step, stored, score)
            if self.kept:
                self.kept()


@dataclass(slots=True)
class _Watch:
    """What can be told of the steps since it was last told."""

    batch: int
    steps: int = 0
    waited_s: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    told: dict[str, float] = field(default_factory=dict)

    def speed(self) -> dict[str, float]:
        """Return how fast the steps were, and what share of the time the loader was waited for."""
        seconds = max(time.monotonic() - self.begun, 1e-9)
        return {
            "samples_per_s": self.steps * self.batch / seconds,
            "waited_share": min(1.0, self.waited_s / seconds),
        }

    def restart(self) -> None:
        self.steps, self.waited_s, self.begun = 0, 0.0, time.monotonic()


def _say(text: str) -> None:
    """Print a line, above the bar where there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def _seed(seed: int, rank: int, step: int) -> int:
    digest = hashlib.sha256(f"{seed} {rank} {step}".encode()).digest()
    return int.from_bytes(digest[:7])
