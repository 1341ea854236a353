"""One model on many ranks: copies of it (DDP), or a part of it on each (FSDP)."""

from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from train.dual_encoder import DualEncoder

WAYS = ("ddp", "fsdp")


def distribute(model: DualEncoder, how: str) -> nn.Module:
    """Spread a model over the ranks of the process group, which is there already.

    Gradients become means over ranks, as `train.contrastive` wants.  Running statistics of batch
    norm are those of rank 0's images: DDP hands them round, and with FSDP the others' are not used.

    Args:
        model: On its device.
        how: `ddp`: each rank has all of it.  `fsdp`: a rank has a share of each weight, gradient
            and state of the optimizer, and a tower is brought together when it is used.

    Returns:
        What to call; with `fsdp` that is `model` itself, changed.
    """
    if how == "ddp":
        return DistributedDataParallel(model, gradient_as_bucket_view=True)
    model.to(memory_format=torch.contiguous_format)  # it can share out no other; images keep theirs
    for tower in (model.image, model.text):
        fully_shard(tower)
    # A scalar cannot be shared out
    fully_shard(model, ignored_params={model.log_scale})
    for name in ("encode_image", "encode_text"):
        register_fsdp_forward_method(model, name)
    model.log_scale.register_post_accumulate_grad_hook(_average)
    return model


def _average(parameter: Any) -> None:
    distributed.all_reduce(parameter.grad)
    parameter.grad /= distributed.get_world_size()
