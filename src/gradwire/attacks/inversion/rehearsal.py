"""A rehearsal: the problem that an adversary is about to attack, posed with the adversary's own images.

Everybody knows the model and the scheme, so that an adversary who has images can run rounds whose answer it knows, and
choose the weight of a prior by them.
"""

from dataclasses import replace

from torch import Tensor

from gradwire.attacks.inversion.problem import Problem, PublicExamples, pose
from gradwire.engine import engine
from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, initial_states, observation, parameters
from gradwire.seeds import number
from gradwire.wire import InProcess, Own, Transcript

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
    scheme, _ = observation(view)
    batch, parties = view.shape[0] // len(problem.clients), len(view.clients)
    shape = (batch, *view.shape[1:])
    needed = times * parties * batch
    if (count := len(public_examples.inputs)) < needed:
        raise GradwireError(f"{public_examples.source} has {count} images; {times} rehearsals take {needed}")
    images = public_examples.inputs[:needed].view(times * parties, *shape).to(device)
    labels = public_examples.targets[:needed].unflatten(0, (times * parties, batch)).to(device)
    found = engine(view.model, view.mode, view.task, batch, device).gradients(images, labels)
    updates = {name: gradient.full().detach().cpu() for name, gradient in found.items()}
    layout = Layout.of_model(view.model)
    round = Round(view.round, view.clients, view.seed, layout, start=parameters(view.model))
    problems = []
    for turn in range(times):
        rows = range(turn * parties, (turn + 1) * parties)
        private = initial_states(scheme, layout, view.clients, number("rehearsal", turn))
        mine = {party: {n: u[row] for n, u in updates.items()} for party, row in zip(view.clients, rows, strict=True)}
        contributions = {party: Contribution(mine[party], private[party]) for party in view.clients}
        transcript = Transcript()
        run_round(scheme, contributions, view.public, round, InProcess(transcript))
        posed = replace(
            view,
            messages=transcript.seen_by(view.adversary),
            shape=shape,
            targets=None if view.targets is None else labels[rows[0]].cpu(),
            fellow_targets=None if view.fellow_targets is None else labels[rows[1:]].cpu(),
            own=Own(mine[view.adversary], private[view.adversary]) if view.adversary in mine else None,
            work=None,
        )
        problems.append(pose(posed, problem.knowledge, SALT + turn))
    sought = [view.clients.index(party) for party in problem.clients]
    return problems, images.unflatten(0, (times, parties))[:, sought].flatten(1, 2).cpu()


def imitable(problem: Problem) -> bool:
    """Whether a client's update is one gradient of the model and the batch alone, without a local-step hook."""
    work = problem.view.work
    return observation(problem.view)[0].step_hook is None and (work is None or work.steps == 1)
