"""What Top-K does not send: of every entry that was left out, that it is no larger than any that was sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import Problem
from gradwire.schemes import observation
from gradwire.schemes.gradients import Gradient
from gradwire.schemes.measurement import Support
from gradwire.schemes.topk import TopK


@dataclass(frozen=True)
class Unsent:
    """For rows of a match, the largest magnitude that each entry of a gradient can have.

    Attributes:
        rows: those of which it is known, int64 (n,).
        most: parameter → (n, entries): the least that was sent, and infinity where an entry was sent itself.
    """

    rows: Tensor
    most: Mapping[str, Tensor]

    @classmethod
    def of(cls, problems: Sequence[Problem], like: Tensor) -> "Unsent":
        """Of problems, one a row, in the type of `like` and on its device."""
        rows = [row for row, problem in enumerate(problems) if _selects(problem)]
        sent: dict[str, list[Tensor]] = {}
        for row in rows:
            view = problems[row].view
            for name, parameter in view.model.named_parameters():
                terms = [t for t in problems[row].measurement.get(name, ()) if isinstance(t, Support)]
                least = min((float(t.observed.abs().min()) for t in terms if t.observed.numel()), default=torch.inf)
                most = like.new_full((parameter.numel(),), least)
                for term in terms:
                    most[term.indices[0].to(like.device)] = torch.inf
                sent.setdefault(name, []).append(most)
        return cls(torch.tensor(rows, device=like.device), {name: torch.stack(each) for name, each in sent.items()})

    def select(self, rows: Tensor) -> "Unsent":
        """That of some rows of the match, int64 (R,), each as often as it is named."""
        equal = self.rows[None] == rows[:, None]
        kept, places = equal.nonzero().unbind(1)
        return Unsent(kept, {name: most[places] for name, most in self.most.items()} if len(kept) else {})

    def excess(self, gradients: Mapping[str, Gradient], energy: Tensor) -> Tensor:
        """Σ (|G| − most)₊² as a share of ‖y‖², (V,), of candidates; zero in the other rows.

        Args:
            energy: ‖y‖², (V,).
        """
        total = torch.zeros_like(energy)
        for name, most in self.most.items():
            over = (gradients[name].rows(self.rows).full().flatten(1).abs() - most).clamp_min(0)
            total = total.index_add(0, self.rows, over.square().sum(1))
        return total / energy.clamp_min(torch.finfo(energy.dtype).tiny)


def _selects(problem: Problem) -> bool:
    """Whether the adversary knows that the largest entries of every parameter of the gradient itself were sent."""
    scheme, _ = observation(problem.view)
    whole = problem.view.round == 0 or not scheme.feeds_back
    return problem.knowledge == "adaptive" and type(scheme) is TopK and scheme.per == "tensor" and whole
