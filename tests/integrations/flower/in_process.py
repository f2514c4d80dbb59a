"""What a federation comes to, in one process and without Flower."""

import torch

from gradwire.rounds import run_round
from gradwire.schemes import Layout, Round, adapted, exchange_keys, parameters, parse
from gradwire.seeds import generator, number
from gradwire.training.client import Descent, contribution
from gradwire.wire import InProcess, Transcript


def same_rounds(spec, model, parties, rounds, lr, weighted, batch, epochs, single=False):
    """The network after rounds of training by `local_steps`.

    Args:
        parties: party → its secret, inputs and targets.
        single: whether clients send the gradient of one step.
    """
    scheme, carrier = parse(spec), InProcess(Transcript(keep=0))
    network = adapted(scheme, model, 0)
    layout = Layout.of_model(network)
    public, mean = scheme.public_state(layout), sum(len(x) for _, x, _ in parties.values()) / len(parties)
    started = {party: scheme.private_state(layout, secret) for party, (secret, _, _) in parties.items()}
    private = exchange_keys(scheme, started)
    each = 1 if single else epochs
    for index in range(rounds):
        weights = "told" if weighted else "equal"
        round = Round(index, tuple(parties), 0, layout, start=parameters(network), weights=weights)
        brought = {}
        for party, (secret, inputs, targets) in parties.items():
            plan, passes = [], []
            for number_of_pass in range(index * each, (index + 1) * each):
                random = generator("batches", number("order", secret), number_of_pass)
                steps = torch.randperm(len(inputs), generator=random).split(batch)[: 1 if single else None]
                plan, passes = [*plan, *steps], [*passes, *[number_of_pass] * len(steps)]
            descent = Descent(plan, passes, lr, local=not single)
            made = contribution(network, inputs, targets, scheme, party, private[party], round, descent)
            weight = len(inputs) / mean if weighted else 1.0
            brought[party] = type(made)(made.update, made.private, made.buffers, weight)
        result = run_round(scheme, brought, public, round, carrier)
        private, public = result.private, result.public
        with torch.no_grad():
            for name, change in result.aggregate.items():
                network.get_parameter(name).sub_(change, alpha=lr if single else 1.0)
            for name, value in result.buffers.items():
                network.get_buffer(name).copy_(value)
    return network
