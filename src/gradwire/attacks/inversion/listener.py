"""The adversary who listened from the start: what error feedback kept back, worked out round by round.

With error feedback (Karimireddy et al. 2019, algorithm 1) a client sends of M_t = G_t + e_t, and keeps
e_{t+1} = M_t − sent_t. In training every G_t is of another batch, so that one message alone tells of G_t no more than
of e_t. But e_0 is zero: the message of round 0 is of G_0 alone, and the batch x_0 that explains it gives G_0 and with
it e_1, which taken off the message of round 1 leaves that of G_1, and so on. An estimate Ĝ_t + ê_t is corrected by what
round t's message says of M_t, so that errors do not stay: an entry that Top-K sent has no residual, whatever was
thought of it before. Rounds are followed in float64: in float32 the cosine alone hides 1e-4 of a gradient, and errors
of many rounds add up.

No paper's attack. Batches are found by a search of the caller's choice, such as Geiping et al. 2020.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels.infer import infer
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Guess, InversionAttack, Problem, pose, scale_of
from gradwire.errors import GradwireError
from gradwire.models.mode import copied
from gradwire.progress import Progress, silent
from gradwire.schemes import Update, observation
from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Measurement
from gradwire.wire import View

LISTENING = "listening"
"""The stage of an attack's progress that counts the earlier rounds."""
EXPLAINED = 0.01
"""The objective above which an answer does not explain what was sent, so that its label may be another one."""
EXACT = torch.float64
MOST_CLASSES = 20
"""Up to so many labels are tried one by one."""


@dataclass(frozen=True)
class Heard:
    """What somebody knows of a round who heard those before it.

    Attributes:
        problem: of the last round, without what was kept back of earlier ones.
        residual: what was kept back, as far as it is known.
        numbers: that the last message holds; `alone`, those of them that are of its own gradient for sure: nothing was
            kept back of them, whatever the earlier batches were.
        explained: rounds before it whose messages the batches that were found explain.
        earlier: rounds before it.
    """

    problem: Problem
    residual: Update = field(repr=False)
    numbers: int
    alone: int
    explained: int
    earlier: int

    @property
    def sentence(self) -> str:
        """The report's words."""
        size = sum(p.numel() for p in self.problem.view.model.parameters() if p.requires_grad)
        return (
            f"the message of round {self.problem.view.round} holds {self.numbers} numbers of {size} entries; of "
            f"{self.alone} nothing was kept back, as all know who heard the {self.earlier} rounds before it; of the "
            f"others it follows from the batches of these rounds, of which {self.explained} were found"
        )


def listen(
    views: Sequence[View],
    attack: InversionAttack,
    residual: Update | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> Heard:
    """What the last of some rounds in a row tells of its batch to somebody who heard them all.

    Args:
        views: of one victim, of consecutive rounds, each of a batch of its own.
        attack: the search for the earlier rounds' batches.
        residual: what was kept back before the first of them. None: nothing, or nobody knows.

    Raises:
        GradwireError: views of which no residual follows, or a batch whose targets cannot be inferred.
    """
    _check(views)
    numbers = [view.round for view in views]
    held = {name: tensor.to(EXACT) for name, tensor in (residual or {}).items()}
    unsure = {} if residual is not None or numbers[0] == 0 else _noise(views[0], seed - 1)
    explained = 0
    for i, view in enumerate(views):
        progress(LISTENING, i, len(views))
        sent = pose(view, "adaptive").measurement
        problem = _without(view, held)
        if i == len(views) - 1 and (view.targets is not None or not i):
            break
        exact = replace(problem, view=replace(view, model=copied(view.model).to(EXACT)))
        guess = _answer(exact, attack, seed, device)
        problem = replace(problem, targets=guess.targets[0])
        if i == len(views) - 1:
            break
        explained += float(guess.objective) < EXPLAINED
        gradients = Match.of([replace(exact, targets=guess.targets[0])], device).gradients(
            guess.inputs.to(device, EXACT)
        )
        found = {name: each.full()[0].detach().cpu() for name, each in gradients.items()}
        scheme, seen = observation(view)
        taken = {name: scale_of(view) * tensor.to(EXACT) for name, tensor in scheme.taken(seen).items()}
        held = _kept(found, held, sent, taken)
        unsure = _kept(_noise(view, seed + i), unsure, _nothing(sent), {})
    progress(LISTENING, len(views), len(views))
    problem = replace(problem, inferred=problem.inferred and replace(problem.inferred, reason=""))
    mixing = {name: Full(tensor[None]) for name, tensor in unsure.items()}
    terms = [(name, term) for name, each in sent.items() for term in each]
    total = sum(int(term.counts().sum()) for _, term in terms)
    mixed = sum(int((term.apply(mixing[name]).abs() > 1e-4).sum()) for name, term in terms if name in mixing)
    return Heard(problem, held, total, total - mixed, explained, len(views) - 1)


def _check(views: Sequence[View]) -> None:
    """Refuse rounds whose residual does not follow."""
    scheme, _ = observation(views[0])
    numbers = [view.round for view in views]
    if not scheme.feeds_back:
        raise GradwireError(f"{scheme.spec} keeps nothing back; each of its rounds is attacked alone")
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise GradwireError(f"rounds are {numbers}; a residual follows from rounds without a gap")
    if scheme.sums_only:
        raise GradwireError(f"{scheme.spec} shows sums over clients, and no residual of one of them")
    work = views[0].work
    if work is not None and (work.steps > 1 or work.weight_decay):
        raise GradwireError("what was kept back is followed for gradients, not for several local steps or weight decay")


def _without(view: View, held: Mapping[str, Tensor]) -> Problem:
    """The problem of a round once what was kept back is taken off what was sent."""
    problem = pose(view, "adaptive")
    if not held:
        return problem
    terms: Measurement = {
        name: [t.to(dtype=EXACT).plus(Full(-held[name][None])) if name in held else t for t in each]
        for name, each in problem.measurement.items()
    }
    if view.targets is not None or view.task.loss.from_inputs:
        return replace(problem, measurement=terms)
    known = infer(view, _kept(_zeros(view), {}, terms, {}), terms)
    return replace(problem, measurement=terms, inferred=known, targets=known.targets)


def _kept(update: Update, held: Update, sent: Measurement, taken: Update) -> dict[str, Tensor]:
    """M ← G + e, corrected by what was sent of it; e ← M − taken."""
    found = {}
    for name, own in update.items():
        whole = (own + held[name] if name in held else own)[None]
        for term in sent.get(name, ()):
            whole = term.to(dtype=whole.dtype).nearest(whole)
        found[name] = whole[0] - taken[name] if name in taken else whole[0]
    return found


def _answer(problem: Problem, attack: InversionAttack, seed: int, device: str) -> Guess:
    """A batch that explains a round; one example's label, where it is not proved, is the one that explains it best."""
    inferred, view = problem.inferred, problem.view
    if inferred is None or inferred.exact:
        return attack.run([problem], seed, device)
    guess = None if inferred.reason else attack.run([problem], seed, device)
    if guess is not None and float(guess.objective) < EXPLAINED:
        return guess
    outputs = len(view.task.loss.classes)
    if view.shape[0] > 1 or not 0 < outputs <= MOST_CLASSES:
        return attack.run([problem], seed, device) if guess is None else guess
    labels = [replace(problem, targets=torch.tensor([c]), inferred=None) for c in range(outputs)]
    tried = attack.run(labels, seed, device)
    best = int(tried.objective.argmin())
    chosen = slice(best, best + 1)
    return replace(
        tried, inputs=tried.inputs[chosen], targets=tried.targets[chosen], objective=tried.objective[chosen], value=None
    )


def _zeros(view: View) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) for name, p in view.model.named_parameters() if p.requires_grad}


def _noise(view: View, seed: int) -> dict[str, Tensor]:
    """Any gradient, to see which numbers of a later message depend on it."""
    random = torch.Generator().manual_seed(seed + 2**20)
    return {name: torch.randn(zero.shape, generator=random) for name, zero in _zeros(view).items()}


def _nothing(sent: Measurement) -> Measurement:
    """The same measurement of nothing."""
    return {name: [replace(t, observed=torch.zeros_like(t.observed)) for t in each] for name, each in sent.items()}
