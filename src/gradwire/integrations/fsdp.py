"""Any scheme between the replicas of a model that `fully_shard` has sharded (FSDP2): hybrid sharding over a slow link.

Within a node gradients are reduce-scattered whole, and each worker's shard is then exchanged with its replicas on the
other nodes, which is what crosses the slow link and what the scheme compresses.

>>> mesh = init_device_mesh("cuda", (nodes, cards), mesh_dim_names=("replicas", "shards"))
>>> fully_shard(model, mesh=mesh["shards"])
>>> state = gradwire.fsdp_hook("powersgd:rank=4", model, mesh["replicas"].get_group())
"""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Variable
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from gradwire.errors import GradwireError
from gradwire.integrations.ddp import OFFERS
from gradwire.integrations.hook_state import HookState
from gradwire.integrations.wrapped import plain_name
from gradwire.schemes import Scheme, adapted, parse
from gradwire.wire import check_carrier

Shapes = dict[str, tuple[int, ...]]


def fsdp_hook(
    spec: str | Scheme, model: nn.Module, replicas: dist.ProcessGroup, seed: int = 0, dense_steps: int = 0
) -> HookState:
    """Put a scheme between the replicas of each shard, and return its state; arguments are those of `ddp_hook`.

    The replicas start from the same parameters, as those of `fully_shard` on one mesh do. A step that one worker's
    gradient spoils is given up for the shards of its replicas alone: others learn of it by their own means.

    Args:
        model: what `fully_shard` was called for, over the workers of one node: a mesh of one dimension.
        replicas: the workers that hold the same shard, one on each node.

    Raises:
        GradwireError: a scheme that needs what this does not offer; a model that is not sharded, or on a mesh of two
            dimensions; replicas that are only one worker.
    """
    scheme = parse(spec)
    check_carrier(scheme.spec, scheme.needs, "a hook of fully_shard", OFFERS)
    if adapted(scheme, model, seed) is not model:
        raise GradwireError(f"{scheme.spec} is for another network than the one it was given")
    if dist.get_world_size(replicas) < 2:
        raise GradwireError(
            "replicas is a group of one worker; without replicas fully_shard sends gradients by its reduce-scatter "
            "alone, which gradwire does not compress: each worker would keep a residual of the whole model"
        )
    sharded = {plain_name(name): m for name, m in model.named_modules() if isinstance(m, FSDPModule)}
    if not sharded:
        raise GradwireError(f"{type(model).__name__} is not sharded; call fully_shard on it first, or use ddp_hook")
    parts = {name: dict(_own(module, name)) for name, module in sharded.items()}
    for parameter in (p for part in parts.values() for p in part.values()):
        if parameter.device_mesh.ndim != 1:
            raise GradwireError(
                f"the mesh has {parameter.device_mesh.ndim} dimensions: fully_shard then sends whole gradients between "
                "replicas before any hook; shard over the one dimension of a node's workers, and name the replicas"
            )
    state = HookState(scheme, model, seed, None, dense_steps, group=replicas)
    state.recordable = False
    for index, (name, module) in enumerate(sharded.items()):
        shapes = {parameter: _shape_of_shard(p) for parameter, p in parts[name].items()}
        module.set_all_reduce_hook(partial(_hook, state, shapes, index, name))
    return state


def _hook(state: HookState, shapes: Shapes, index: int, module: str, shard: Tensor) -> None:
    """Replace this worker's shard of a module's gradients, one after another in a flat vector, by its replicas' mean.

    Raises:
        GradwireError: parameters without a gradient, which `fully_shard` leaves out of the vector.
    """
    due = sum(map(prod, shapes.values()))
    if shard.numel() != due:
        raise GradwireError(
            f"step {state.step}: {module or 'the model'} has gradients of {shard.numel()} entries in this shard; "
            f"its parameters have {due}. Each must be used in every step, or be frozen before fsdp_hook"
        )
    if not state.in_step:
        state.in_step = True
        Variable._execution_engine.queue_callback(state.end_step)
    parts = shard.split([prod(shape) for shape in shapes.values()])
    gradients = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    if not state.reduce(shard, gradients, index):
        shard.fill_(float("nan"))


def _own(module: Any, prefix: str) -> Iterator[tuple[str, DTensor]]:
    """The parameters that a module's own group shards: not those of sharded modules in it, nor frozen ones."""
    within: list[Any] = [m for m in module.modules() if m is not module and isinstance(m, FSDPModule)]
    inner = {id(p) for m in within for p in m.parameters()}
    for name, parameter in module.named_parameters():
        if id(parameter) not in inner and parameter.requires_grad:
            assert isinstance(parameter, DTensor)
            yield plain_name(f"{prefix}.{name}" if prefix else name), parameter


def _shape_of_shard(parameter: DTensor) -> tuple[int, ...]:
    """Of each worker's part, padded so that all are equal."""
    (placement,) = parameter.placements
    shards, shape = parameter.device_mesh.size(), list(parameter.shape)
    dim = getattr(placement, "dim", 0)
    shape[dim] = -(-shape[dim] // shards)
    return tuple(torch.Size(shape))
