"""Several rounds of one victim on one batch, with residual and model carried on as training carries them."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Outcome, Round, State, enrol, parameters, parse
from gradwire.training.capture import Batch, capture
from gradwire.training.contribution import contribution
from gradwire.wire import InProcess, View, client
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
    network, views = copy.deepcopy(parse(scheme).adapt(model, seed)), []
    layout, batches = Layout.of_model(network), [(inputs, labels), *fellows]
    public: State = parse(scheme).public_state(layout)
    private: Mapping[str, State] = enrol(parse(scheme), layout, [client(i) for i in range(len(batches))], seed)
    for index in range(rounds):
        options = {"adversary": adversary, "fellows": fellows, "labels_known": labels_known}
        now = {"mode": mode, "private": private, "public": public, "round": index, "seed": seed}
        views.append(capture(network, inputs, labels, scheme, **options, **now))  # type: ignore[arg-type]
        context = Round(index, tuple(private), seed, layout, start=parameters(network))
        outcomes, public = _play(network, batches, scheme, private, public, context, mode)
        private = {party: outcome.private for party, outcome in outcomes.items()}
        aggregate = next(iter(outcomes.values())).aggregate
        with torch.no_grad():
            for name, change in aggregate.items():
                network.get_parameter(name).sub_(lr * change)
    return views


def _play(
    model: nn.Module,
    batches: Sequence[Batch],
    scheme: str,
    private: Mapping[str, State],
    public: State,
    context: Round,
    mode: Mode,
) -> tuple[Mapping[str, Outcome], State]:
    """The round once more, unwatched, for what everybody goes into the next one with."""
    chosen = parse(scheme)
    halves = {}
    for party, batch in zip(context.clients, batches, strict=True):
        came = contribution(model, *batch, chosen, party, private[party], context, mode=mode)
        halves[party] = chosen.client(came.update, came.private, public, context)
    outcomes, served = InProcess().exchange(halves, chosen.server(public, context), context.index)
    return outcomes, served.public
