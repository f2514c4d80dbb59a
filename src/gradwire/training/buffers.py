"""What clients send beside their updates, as it is, and get the mean of: batch norm's running statistics, say."""

from collections.abc import Mapping

from torch import Tensor, nn

from gradwire.schemes.aggregate import mean
from gradwire.wire import BUFFERS, ClientHalf, Send, ServerHalf

Buffers = Mapping[str, Tensor]


def running_statistics(model: nn.Module) -> list[str]:
    """Names of the floating-point buffers that a state dict carries: what a forward pass learns without a gradient."""
    kept = model.state_dict().keys()
    return [name for name, buffer in model.named_buffers() if name in kept and buffer.is_floating_point()]


def share(tensors: Buffers, phase: str = BUFFERS) -> ClientHalf[Buffers]:
    """The client's half: send tensors, get their means."""
    reply = yield Send(phase, tensors, mean=True)
    return reply


def average(phase: str = BUFFERS) -> ServerHalf[Buffers]:
    """The server's half."""
    uploads = yield None
    averaged = mean(uploads)
    yield Send(phase, averaged)
    return averaged
