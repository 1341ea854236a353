"""LAMB: Adam whose step is as long, layer by layer, as the layer's weights are.

Source: You et al. (arXiv:1904.00962), algorithm 2, with the identity as its phi, and with both of
Adam's bias corrections, as there.
"""
# ruff: noqa: SLF001  # torch's own optimizers are made of its `_foreach` functions

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Lamb(torch.optim.Optimizer):
    """The optimizer; all tensors of a group are changed by a few calls.

    Groups may have `adapt=False`: their steps are Adam's.  LAMB's published code does so with all
    that has no weight decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": True}
        super().__init__(params, {"lr": lr, "step": 0, **defaults})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the weights by their gradients."""
        value = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                weights = [one for one in group["params"] if one.grad is not None]
                if weights:
                    group["step"] += 1
                    self._change(group, weights)
        return value

    def _change(self, group: dict[str, Any], weights: list[torch.Tensor]) -> None:
        steps = self._direct(group, weights)
        if group["weight_decay"]:
            torch._foreach_add_(steps, weights, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(steps, _ratios(weights, steps))
        torch._foreach_add_(weights, steps, alpha=-group["lr"])

    def _direct(self, group: dict[str, Any], weights: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return Adam's steps, of a learning rate of 1."""
        for weight in weights:
            if not self.state[weight]:
                names = ("exp_avg", "exp_avg_sq")
                self.state[weight] |= {name: torch.zeros_like(weight) for name in names}
        gradients = [weight.grad for weight in weights]
        means = [self.state[weight]["exp_avg"] for weight in weights]
        squares = [self.state[weight]["exp_avg_sq"] for weight in weights]
        (beta1, beta2), step = group["betas"], group["step"]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - beta2**step) ** 0.5)
        torch._foreach_add_(roots, group["eps"])
        steps = torch._foreach_div(means, 1 - beta1**step)
        torch._foreach_div_(steps, roots)
        return steps


def _ratios(weights: list[torch.Tensor], steps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return how much longer each weight is than its step; 1 where either is all 0."""
    of_weights, of_steps = (torch._foreach_norm(tensors) for tensors in (weights, steps))
    pairs = zip(of_weights, of_steps, strict=True)
    return [torch.where((w > 0) & (s > 0), w / s, 1.0) for w, s in pairs]
