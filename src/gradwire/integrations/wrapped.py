"""Networks within torch.compile and DDP, the names of their parameters, and a worker's place among the others."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gradwire.errors import GradwireError

PREFIXES = ("_orig_mod.", "module.")
"""What torch.compile and DDP put before the names of parameters."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The network within torch.compile and DDP."""
    parallel = parallel_of(model)
    model = model if parallel is None else parallel.module
    return getattr(model, "_orig_mod", model)


def check_whole(model: nn.Module) -> None:
    """Refuse a model of which each worker holds a part.

    Raises:
        GradwireError: naming the first parameter that is a DTensor.
    """
    from torch.distributed.tensor import DTensor  # takes a second, which DDP has spent already

    for name, parameter in model.named_parameters():
        if isinstance(parameter, DTensor):
            raise GradwireError(
                f"parameter {plain_name(name)!r} is a DTensor, of which each worker holds a part; fsdp_hook compresses "
                "between replicas of models that fully_shard has sharded"
            )


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile and DDP put before it."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace("._orig_mod.", ".")


def parallel_of(model: nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel in a model, compiled or not."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, DistributedDataParallel) else None


def check_hooked() -> None:
    """See that steps are compressed, in the forward pass of a network that has a hook's state.

    Raises:
        GradwireError: the DistributedDataParallel whose forward pass this is has no communication hook.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return
    parallel = DistributedDataParallel._get_active_ddp_module()
    if parallel is not None and not parallel._comm_hooks:
        raise GradwireError(
            "this step would not be compressed: the DistributedDataParallel has no communication hook; call "
            "model.register_comm_hook(state, hook) before the first step (Lightning's DDPStrategy registers none on a "
            "CPU; examples/lightning_ddp.py does)"
        )


def place() -> dict[str, int]:
    """This worker's place among the others; before there are any, that of one alone."""
    if not dist.is_initialized():
        return {"rank": 0, "world_size": 1}
    return {"rank": dist.get_rank(), "world_size": dist.get_world_size()}
