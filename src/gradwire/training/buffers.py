"""What a model carries beside its parameters (batch norm's running statistics): sent as it is, and averaged."""

from collections.abc import Mapping

from torch import Tensor, nn

from gradwire.schemes.aggregate import mean
from gradwire.wire import BUFFERS, ClientHalf, Send, ServerHalf

Buffers = Mapping[str, Tensor]


def running_statistics(model: nn.Module) -> list[str]:
    """Names of the floating-point buffers that a state dict carries: what a forward pass learns without a gradient."""
    kept = model.state_dict().keys()
    return [name for name, buffer in model.named_buffers() if name in kept and buffer.is_floating_point()]


def share(buffers: Buffers) -> ClientHalf[Buffers]:
    """The client's half: send the buffers, get their means."""
    reply = yield Send(BUFFERS, buffers, mean=True)
    return reply


def average() -> ServerHalf[Buffers]:
    """The server's half."""
    uploads = yield None
    averaged = mean(uploads)
    yield Send(BUFFERS, averaged)
    return averaged
