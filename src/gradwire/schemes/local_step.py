"""What a client does while it trains, beyond plain SGD, because of the scheme that its update will go through.

Most schemes have no say before there is an update. Some do: one clips every example's gradient and adds noise to each
step (dpsgd), one replaces the parameters after each step by what its autoencoder leaves of them (autoencoder). Both
are a *practice*: two functions between which a step of SGD happens, with the client's private state going through.

    gradient ─ direct ─→ what the step follows ─ step ─→ parameters ─ settle ─→ parameters of the next step

A practice opens nothing, keeps nothing and never sees an image, so that simulation, audit and deployment run the same.
Where there is one, clients train one after another: what it does depends on each client's own state, and no cohort is
trained as one batch (vmap) under it. Where there is none, nothing is in a cohort's way.
"""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gradwire.schemes.layout import Update
from gradwire.schemes.round import Round


@dataclass(frozen=True)
class LocalStep:
    """Where a client is in its training.

    Attributes:
        index: of the step in this round, from 0.
        steps: of this round; 1 where the client sends the gradient of one batch.
        batch: images that the step uses.
        examples: images that the client has in all, from which it takes the batch.
        epoch: which of the client's passes over these the batch belongs to. No image is in two batches of one pass.
    """

    round: Round
    index: int
    steps: int
    batch: int
    examples: int
    epoch: int

    @property
    def last(self) -> bool:
        """Whether the client sends what this step leaves."""
        return self.index == self.steps - 1


class LocalStepHook(ABC):  # noqa: B024 (each method has a default: to do nothing)
    """What a client does to each of its steps. State goes in and comes out; both functions are pure."""

    per_example: bool = False
    """Whether `before_step` gets every example's own gradient, shape (batch, *parameter), or their mean's."""

    def before_step(
        self, gradient: Update, private: Mapping[str, Tensor], step: LocalStep
    ) -> tuple[Update, Mapping[str, Tensor]]:
        """What the step follows, of the shapes of the parameters, in place of the gradient. By default that itself."""
        return gradient, private

    def after_step(
        self, parameters: Update, private: Mapping[str, Tensor], step: LocalStep
    ) -> tuple[Update, Mapping[str, Tensor]]:
        """The parameters that the step is taken to have left. By default those that it did leave.

        It is not called where a client takes no step of its own, but sends the gradient of one batch.
        """
        return parameters, private
