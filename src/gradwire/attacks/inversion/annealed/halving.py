"""What promises most, rehearsed on the adversary's own images, for each scheme and kind of knowledge apart.

K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016:
successive halving. A rung is a whole path, shortened, and a path counts by its best stage, so that one with a weak
prior in the end is not judged before it gets there. Adam needs more iterations than L-BFGS to get anywhere: the first
rung leaves the better half of the paths of each, and only the last one compares the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradwire.attacks.inversion.annealed.paths import Path
from gradwire.attacks.inversion.problem import InversionAttack, Problem
from gradwire.attacks.inversion.rehearsal import imitable, rehearse
from gradwire.attacks.inversion.search import OPTIMIZERS
from gradwire.progress import Progress

REHEARSALS = 4
"""Rounds with images of the adversary's own, a case."""
RUNGS = (1 / 6, 1 / 2)
"""Of the iterations: after the first the better half of each optimiser's paths goes on, and after the last the best."""
ON_A_RUNG = 2
"""Of the rehearsals; all of them run along the path that is taken in the end, to find where to stop."""
Case = tuple[str, str]
"""A scheme's spec and a kind of knowledge."""


def case(problem: Problem) -> Case:
    """Whose rehearsals the problem shares."""
    return problem.view.scheme, problem.knowledge


@dataclass(frozen=True)
class CaseRehearsals:
    """One case's rehearsals: problems of known images (R, B, *shape), and the paths that are left for them."""

    problems: tuple[Problem, ...]
    truth: Tensor
    paths: tuple[Path, ...]

    def score(self, inputs: Tensor) -> float:
        """The mean score of answers to the first of the problems, by the domain's first measure; higher is better."""
        domain, truth = self.problems[0].view.task.domain, self.truth[: len(inputs)]
        found = domain.score(domain.matched(inputs.cpu(), truth), truth)[domain.scores[0]]
        mean = float(torch.nan_to_num(found, nan=-1.0).mean())
        return mean if domain.higher else -mean


def promised(attack: InversionAttack, problems: Sequence[Problem], seed: int, device: str) -> list[float | None]:
    """What an attack reaches on the rehearsals of each problem's case; None where there are none."""
    own, scores = problems[0].public_examples, dict[Case, float]()
    if own is None:
        return [None] * len(problems)
    for problem in problems:
        if case(problem) not in scores and imitable(problem):
            posed, truth = rehearse(problem, own, REHEARSALS, device)
            scores[case(problem)] = CaseRehearsals(tuple(posed), truth, ()).score(
                attack.run(posed, seed, device).inputs
            )
    return [scores.get(case(problem)) for problem in problems]


def halved(
    problems: Sequence[Problem],
    suited: Callable[[Problem], tuple[Path, ...]],
    begun: Callable[[Sequence[Problem]], Sequence[Problem]],
    seed: int,
    device: str,
    progress: Progress,
) -> dict[Case, CaseRehearsals]:
    """The case of each problem that can be imitated, with the one path that was best for it.

    Args:
        suited: the paths to choose among for a problem.
        begun: rehearsals, to begin where the victims' searches will.

    Raises:
        GradwireError: fewer own images than the rehearsals of a case take.
    """
    own, cases = problems[0].public_examples, dict[Case, CaseRehearsals]()
    if own is None:
        return cases
    for problem in problems:
        if case(problem) not in cases and imitable(problem):
            posed, truth = rehearse(problem, own, REHEARSALS, device)
            cases[case(problem)] = CaseRehearsals(tuple(begun(posed)), truth, suited(problem))
    for rung, share in enumerate(RUNGS):
        paths = dict.fromkeys(path for each in cases.values() if len(each.paths) > 1 for path in each.paths)
        scores: dict[Case, dict[Path, float]] = {key: {} for key in cases}
        for done, path in enumerate(paths):
            tried = {key: each for key, each in cases.items() if len(each.paths) > 1 and path in each.paths}
            posed = [problem for each in tried.values() for problem in each.problems[:ON_A_RUNG]]
            shortened = replace(path, iterations=round(share * path.iterations))
            ends = [end[0] for end in shortened.descend(posed, seed, device)[1].ends]
            for at, (key, each) in enumerate(tried.items()):
                rows = slice(at * ON_A_RUNG, (at + 1) * ON_A_RUNG)
                scores[key][path] = max(each.score(end[rows]) for end in ends)
            progress("rehearsing", rung * len(paths) + done + 1, len(RUNGS) * len(paths))
        for key, found in scores.items():
            if found:
                ranked = sorted(found, key=found.__getitem__, reverse=True)
                paths_of = [[p for p in ranked if p.optimizer == each] for each in OPTIMIZERS]
                better = [path for several in paths_of for path in several[: -(-len(several) // 2)]]
                cases[key] = replace(cases[key], paths=tuple(better if rung + 1 < len(RUNGS) else ranked[:1]))
    return cases
