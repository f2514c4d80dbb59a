"""Any scheme as the communication hook of DistributedDataParallel.

>>> model = DistributedDataParallel(network)
>>> model.register_comm_hook(*gradwire.ddp_hook("powersgd:rank=4", model))

The rest of the script stays as it is: gradient accumulation under `no_sync` and autocast included. Where a `GradScaler`
scales the loss, the hook should know it: `ddp_hook("powersgd:rank=4", model, scaler=scaler)`.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.futures import Future

from gradwire.errors import GradwireError, at_least
from gradwire.integrations.hook_state import HookState
from gradwire.integrations.wrapped import check_whole, unwrapped
from gradwire.schemes import Scheme, adapted, parse
from gradwire.wire import Need, check_carrier

OFFERS = frozenset({Need.SINGLE_GRADIENT, Need.EQUAL_WEIGHTS, Need.OWN_NETWORK})
"""What a scheme may need and finds in a hook: it sees gradients, once a step, and no server."""


def ddp_hook(
    spec: str | Scheme, model: nn.Module, seed: int = 0, scaler: GradScaler | None = None, dense_steps: int = 0
) -> tuple[HookState, Any]:
    """State and hook for `model.register_comm_hook`.

    A scheme with a momentum of its own (dgc) wants an optimiser without.

    Args:
        spec: a scheme such as "powersgd:rank=4".
        model: the DistributedDataParallel, or the network within it.
        seed: of the scheme's public randomness, the same in every worker.
        scaler: the script's, if it has one. The scheme then works on gradients in their own units: what is left
            unsent in one step fits the next one's, whatever the scale has become, and signs are not scaled down.
        dense_steps: the first so many steps send whole gradients, which are steep and differ much from step to step.

    Raises:
        GradwireError: a scheme that needs what a hook does not offer, or another network than this one; parameters
            that are DTensors.
    """
    scheme = parse(spec)
    at_least(0, dense_steps=dense_steps)
    check_carrier(scheme.spec, scheme.needs, "a DDP hook", OFFERS)
    network = unwrapped(model)
    check_whole(network)
    if adapted(scheme, network, seed) is not network:
        raise GradwireError(
            f"{scheme.spec} is for another network than the one it was given: make the DDP model of "
            "gradwire.schemes.adapted(gradwire.schemes.parse(spec), network, seed)"
        )
    return HookState(scheme, model, seed, scaler, dense_steps), hook


def hook(state: HookState, bucket: dist.GradBucket) -> Future[Tensor]:
    """Replace a bucket's gradients by their mean over the workers, as the scheme lets it through.

    Where a gradient is not finite, all workers get NaN: `GradScaler` looks for it and skips the step, of which no
    residual keeps a trace.
    """
    buffer, names, index, last = bucket.buffer(), state.names(bucket), bucket.index(), bucket.is_last()
    gradients = dict(zip(names, bucket.gradients(), strict=True))

    def work() -> Tensor:
        if not state.reduce(buffer, gradients, index):
            buffer.fill_(float("nan"))
        if last:
            state.end_step()
        return buffer

    if not buffer.is_cuda:
        return state.run(work)
    future: Future[Tensor] = Future(devices=[buffer.device])
    future.set_result(work())
    return future
