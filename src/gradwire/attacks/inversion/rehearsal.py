"""A rehearsal: the problem that an adversary is about to attack, posed with the adversary's own images.

Everybody knows the model and the scheme, so that an adversary who has images can run rounds whose answer it knows, and
choose the weight of a prior by them.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem, PublicExamples, pose
from gradwire.engine import engine
from gradwire.errors import GradwireError
from gradwire.models.mode import in_mode
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, Update, initial_states, observation, parameters
from gradwire.seeds import drawing, number
from gradwire.wire import InProcess, Own, Tensors, Transcript, View

SALT = 1_000_000
"""Rehearsals start from other noise than victims."""


def rehearse(
    problem: Problem, public_examples: PublicExamples, times: int, device: str = "cpu"
) -> tuple[list[Problem], Tensor]:
    """Problems like this one, of rounds whose clients hold the adversary's images and begin without residuals.

    The scheme must be `imitable`.

    Returns:
        as many problems as `times`, and their true images (times, B, C, H, W).
    """
    view = problem.view
    batch, parties = view.shape[0] // len(problem.clients), len(view.clients)
    shape = (batch, *view.shape[1:])
    needed = times * parties * batch
    if (count := len(public_examples.inputs)) < needed:
        raise GradwireError(f"{public_examples.source} has {count} images; {times} rehearsals take {needed}")
    images = public_examples.inputs[:needed].view(times * parties, *shape).to(device)
    labels = public_examples.targets[:needed].unflatten(0, (times * parties, batch)).to(device)
    found = engine(view.model, view.mode, view.task, batch, device).gradients(images, labels)
    updates = {name: gradient.full().detach().cpu() for name, gradient in found.items()}
    problems = []
    for turn in range(times):
        seats = list(zip(view.clients, range(turn * parties, (turn + 1) * parties), strict=True))
        mine = {party: {n: u[row] for n, u in updates.items()} for party, row in seats}
        statistics = {party: left_behind(view, images[row], labels[row]) for party, row in seats}
        problems.append(played(problem, mine, labels[turn * parties : (turn + 1) * parties].cpu(), turn, statistics))
    sought = [view.clients.index(party) for party in problem.clients]
    return problems, images.unflatten(0, (times, parties))[:, sought].flatten(1, 2).cpu()


def left_behind(view: View, inputs: Tensor, targets: Tensor) -> Tensors:
    """The running statistics that a client's batch leaves, where the view's victim sent its own; else none."""
    if view.buffers is None:
        return {}
    model = view.model
    found = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    with in_mode(model, view.mode), torch.no_grad(), drawing(0, str(inputs.device)):
        view.task.output(model, inputs, {**parameters(model), **found}, targets)
    return {name: found[name].cpu() for name in view.buffers}


def played(
    problem: Problem,
    updates: Mapping[str, Update],
    targets: Tensor,
    turn: int,
    statistics: Mapping[str, Tensors] = MappingProxyType({}),
) -> Problem:
    """The problem that one round poses in which clients hold the adversary's examples and begin without residuals.

    Args:
        updates: of each client, party → gradient on the CPU.
        targets: of each client's batch, (|C|, B, …), in the order of the round's clients.
        turn: its number, which seeds the clients' own random numbers.
        statistics: party → the running statistics that it sends beside its update.
    """
    view, layout = problem.view, Layout.of_model(problem.view.model)
    scheme, _ = observation(view)
    round = Round(view.round, view.clients, view.seed, layout, start=parameters(view.model))
    private = initial_states(scheme, layout, view.clients, number("rehearsal", turn))
    contributions = {
        party: Contribution(updates[party], private[party], statistics.get(party, {})) for party in view.clients
    }
    transcript = Transcript()
    run_round(scheme, contributions, view.public, round, InProcess(transcript))
    victim = view.clients.index(view.victim)
    fellows = [row for row in range(len(targets)) if row != victim]
    posed = replace(
        view,
        messages=transcript.seen_by(view.adversary),
        shape=(targets.shape[1], *view.shape[1:]),
        targets=None if view.targets is None else targets[victim],
        fellow_targets=None if view.fellow_targets is None else targets[fellows],
        own=Own(updates[view.adversary], private[view.adversary]) if view.adversary in updates else None,
        work=None,
    )
    return pose(posed, problem.knowledge, SALT + turn)


def imitable(problem: Problem) -> bool:
    """Whether a client's update is one gradient of the model and the batch alone.

    It is not where a local-step hook changes it, nor where one image gives away the noise of the scheme's own network,
    so that every problem has a network of its own (`OwnNetwork.known`).
    """
    view, scheme = problem.view, observation(problem.view)[0]
    noise_is_read = scheme.network is not None and problem.knowledge == "adaptive" and view.shape[0] == 1
    return scheme.step_hook is None and not noise_is_read and (view.work is None or view.work.steps == 1)
