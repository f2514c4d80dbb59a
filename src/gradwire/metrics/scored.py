"""An attack's scores with the truth beside them: what every figure of membership is computed from."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics.roc import Roc, roc


@dataclass(frozen=True)
class Scored:
    """The scores of N examples against M targets.

    Attributes:
        scores: the higher, the likelier a member; float64, shape (M, N). Infinite ones are allowed.
        members: bool, shape (M, N): which examples each target was trained on.
        asked: bool, shape (M, N): the pairs that are judged. The scores of others do not count.
        limits: float64, shape (M, N): a candidate is called a member if it scores no lower.
        models: int64, shape (M,): targets with the same number are one model, as the clients of one training are.
    """

    scores: Tensor
    members: Tensor
    asked: Tensor
    limits: Tensor
    models: Tensor

    @classmethod
    def of(
        cls,
        scores: Tensor,
        members: Tensor,
        asked: Tensor | None = None,
        limits: Tensor | float = torch.inf,
        models: Tensor | None = None,
    ) -> "Scored":
        """As the class, of one target where shapes are (N,); every pair is judged unless `asked` says otherwise.

        Raises:
            GradwireError: shapes that do not fit, a judged score or threshold that is not a number, or a side without
                any candidate.
        """
        scores, members = torch.atleast_2d(scores), torch.atleast_2d(members)
        if scores.ndim != 2 or scores.shape != members.shape or members.dtype != torch.bool:
            found = f"{tuple(scores.shape)} and {tuple(members.shape)}, the latter {members.dtype}"
            raise GradwireError(f"scores and members have shapes {found}; they must be (M, N) and boolean (M, N)")
        asked = torch.ones_like(members) if asked is None else torch.atleast_2d(asked)
        limits = torch.as_tensor(limits, dtype=torch.float64).expand(scores.shape)
        models = torch.arange(len(scores)) if models is None else models
        made = cls(scores.double(), members, asked, limits, models)
        for what, values in (("scores are", made.scores), ("thresholds are", made.limits)):
            if wrong := int((values.isnan() & asked).sum()):
                raise GradwireError(f"{wrong} of {int(asked.sum())} {what} not a number; each must be one")
        made.curve  # noqa: B018 - it refuses a side without candidates
        return made

    @cached_property
    def curve(self) -> Roc:
        """The trade-off of all judged pairs together."""
        return roc(self.scores[self.asked], self.members[self.asked])

    @property
    def called(self) -> Tensor:
        """Which judged pairs are called members, bool (M, N)."""
        return (self.scores >= self.limits) & self.asked
