"""A training round's two halves: the scheme's, and then the buffers that the model carries beside its parameters."""

from collections.abc import Mapping

from torch import Tensor

from gradwire.schemes import Outcome, Round, Scheme, State, Update
from gradwire.schemes.aggregate import mean
from gradwire.wire import ClientHalf, Send, ServerHalf

Buffers = Mapping[str, Tensor]


def client_half(
    scheme: Scheme, update: Update, buffers: Buffers, private: State, public: State, round: Round
) -> ClientHalf[tuple[Outcome, Buffers]]:
    """The client's half. Buffers (batch norm's running statistics), if any, follow as they are and are averaged."""
    round.layout.check(update)
    outcome = yield from scheme.client(update, private, public, round)
    averaged = (yield Send("buffers", buffers, mean=True)) if buffers else buffers
    return outcome, averaged


def server_half(scheme: Scheme, public: State, round: Round, buffers: bool) -> ServerHalf[Outcome]:
    """The server's half."""
    outcome = yield from scheme.server(public, round)
    if buffers:
        uploads = yield None
        yield Send("buffers", mean(uploads))
    return outcome
