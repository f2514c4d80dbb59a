"""Several rounds of one victim on one batch, with residual and model carried on as training carries them."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, initial_states, parameters, parse
from gradwire.training.capture import watching
from gradwire.training.play import Batch, play
from gradwire.wire import View, client
from gradwire.wire.view import Mode


def capture_rounds(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    scheme: str,
    rounds: int,
    *,
    lr: float = 0.0,
    adversary: str = "server",
    fellows: Sequence[Batch] = (),
    mode: Mode = "train",
    labels_known: bool = True,
    seed: int = 0,
) -> list[View]:
    """The views of rounds 0 to `rounds` − 1, in each of which the victim's gradient is of the same batch.

    Between them, the scheme's state goes on, and the model takes a step of size `lr` along the aggregate (0: it stays
    as it is). The first round begins without a residual.

    Raises:
        GradwireError: fewer than one round, or as `capture`.
    """
    if rounds < 1:
        raise GradwireError(f"rounds is {rounds}; it must be at least 1")
    chosen, views = parse(scheme), []
    chosen.check_local(False)
    network = copy.deepcopy(chosen.adapt(model, seed))
    layout = Layout.of_model(network)
    batches = {client(i): batch for i, batch in enumerate([(inputs, labels), *fellows])}
    watcher = watching(adversary, tuple(batches))
    public, private = chosen.public_state(layout), initial_states(chosen, layout, tuple(batches), seed)
    for index in range(rounds):
        context = Round(index, tuple(batches), seed, layout, start=parameters(network))
        played = play(network, batches, chosen, private, public, context, mode)
        views.append(played.seen_by(watcher, labels_known))
        private = {party: outcome.private for party, outcome in played.outcomes.items()}
        after = next(iter(played.outcomes.values()))
        public = after.public
        with torch.no_grad():
            for name, change in after.aggregate.items():
                network.get_parameter(name).sub_(lr * change.to(inputs.device))
            for name, value in played.buffers.items():
                network.get_buffer(name).copy_(value)
    return views
