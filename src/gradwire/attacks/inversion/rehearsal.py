"""A rehearsal: the problem that an adversary is about to attack, posed with images of its own, whose answer it knows.

How far a prior should be trusted against a scheme can be found out without a victim: everybody knows the model and the
scheme, and an adversary that has images can be a client.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem, PublicImages, pose
from gradwire.engine import engine
from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, initial_states, observation, parameters
from gradwire.seeds import number
from gradwire.wire import InProcess, Own, Transcript

SALT = 1_000_000
"""Rehearsals start from other noise than victims."""


def rehearse(
    problem: Problem, public_images: PublicImages, times: int, device: str = "cpu"
) -> tuple[list[Problem], Tensor]:
    """The problem again, of so many rounds whose clients hold the adversary's images and began without residuals.

    The scheme must be `imitable`: a local-step hook is not followed here.

    Returns:
        problems, and the images (times, B, C, H, W) that those held whose images they are about.

    Raises:
        GradwireError: too few images.
    """
    view = problem.view
    scheme, _ = observation(view)
    batch, parties = view.shape[0] // len(problem.clients), len(view.clients)
    shape = (batch, *view.shape[1:])
    needed = times * parties * batch
    if len(public_images.images) < needed:
        raise GradwireError(
            f"{public_images.source} has {len(public_images.images)} images; {times} rehearsals take {needed}"
        )
    images = public_images.images[:needed].view(times * parties, *shape).to(device)
    labels = public_images.labels[:needed].view(times * parties, batch).to(device)
    found = engine(view.model, view.mode, view.loss, shape, device).gradients(images, labels)
    updates = {name: gradient.full().detach().cpu() for name, gradient in found.items()}
    layout = Layout.of_model(view.model)
    round = Round(view.round, view.clients, view.seed, layout, start=parameters(view.model))
    problems = []
    for turn in range(times):
        rows = range(turn * parties, (turn + 1) * parties)
        private = initial_states(scheme, layout, view.clients, number("rehearsal", turn))
        mine = {party: {n: u[row] for n, u in updates.items()} for party, row in zip(view.clients, rows, strict=True)}
        brought = {party: Own(update, private[party]) for party, update in mine.items()}
        came = {party: Contribution(mine[party], private[party]) for party in view.clients}
        transcript = Transcript()
        run_round(scheme, came, view.public, round, InProcess(transcript))
        known = None if view.labels is None else labels[rows[0]].cpu()
        told = {"messages": transcript.seen_by(view.adversary), "labels": known, "own": brought.get(view.adversary)}
        if view.fellow_labels is not None:
            told["fellow_labels"] = labels[rows[1:]].cpu()
        posed = replace(view, shape=shape, work=None, **told)  # type: ignore[arg-type]
        problems.append(pose(posed, problem.knowledge, SALT + turn))
    sought = [view.clients.index(party) for party in problem.clients]
    return problems, images.unflatten(0, (times, parties))[:, sought].flatten(1, 2).cpu()


def imitable(problem: Problem) -> bool:
    """Whether the scheme leaves it to the model and the batch what a client's update is."""
    return observation(problem.view)[0].step_hook is None


def distinct(problems: Sequence[Problem]) -> dict[tuple[str, str], Problem]:
    """One problem of each scheme and kind of knowledge: each gets a rehearsal of its own."""
    found: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        found.setdefault((problem.view.scheme, problem.knowledge), problem)
    return found


def best(scores: Tensor, of: Sequence[float]) -> float:
    """The value with the highest mean score; scores (values, rehearsals)."""
    return of[int(torch.nan_to_num(scores, nan=-1.0).mean(1).argmax())]
