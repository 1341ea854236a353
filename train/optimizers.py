"""Optimizers, which parameters they shrink, and how fast they learn at which step."""

from typing import Any

import torch
from torch import nn

from recaption.stages import schedule
from train.config import OptimizerConfig
from train.dual_encoder import DualEncoder
from train.lamb import Lamb


def build_optimizer(model: DualEncoder, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a model.

    Matrices and kernels decay.  Biases, the weights of norms, and the log scale do not, and LAMB
    does not adapt them.  After each step the log scale is brought back into its bounds.

    Args:
        model: On its device, and distributed already where it shall be.
        config: What to build.
    """
    kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        kinds[parameter.ndim > 1].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": kinds[True], "weight_decay": config.weight_decay},
        {"params": kinds[False], "weight_decay": 0.0},
    ]
    shared: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.beta1, config.beta2),
        "eps": config.epsilon,
    }
    optimizer: torch.optim.Optimizer
    if config.name == "lamb":
        groups[1]["adapt"] = False
        optimizer = Lamb(groups, **shared)
    else:
        optimizer = torch.optim.AdamW(groups, fused=True, **shared)
    optimizer.register_step_post_hook(lambda *_: model.clamp_scale())
    return optimizer


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> float:
    """Give an optimizer the learning rate of a step, 0 the first, and return it.

    It rises in a line to `learning_rate` within `warmup_steps`, and is 0 after `steps` but for
    `decay = "none"`.
    """
    rate = config.learning_rate * schedule(step, steps, config.warmup_steps, config.decay)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
