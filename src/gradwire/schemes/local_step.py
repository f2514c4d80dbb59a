"""The local-step hook: what some schemes do to each step of a client's training, before there is an update.

dpsgd clips every example's gradient and adds noise to each step; autoencoder passes the parameters through an
autoencoder after each step. A step of SGD happens between the hook's two functions:

    gradient ─ before_step ─→ what the step follows ─ step ─→ parameters ─ after_step ─→ parameters of the next step

Clients under a hook train one after another, as what it does depends on each client's private state.
"""

from abc import ABC
from dataclasses import dataclass

from gradwire.schemes.layout import Update
from gradwire.schemes.round import Round, State


@dataclass(frozen=True)
class LocalStep:
    """Where a client is in its training.

    Attributes:
        index: of the step in this round, from 0.
        steps: of this round; 1 where the client sends the gradient of one batch.
        batch: examples that the step uses, and is divided by; of a Poisson batch, those expected.
        examples: of the client in all.
        epoch: the client's pass over them to which the batch belongs. No example is in two shuffled batches of a pass.
        rate: of a Poisson batch, the chance with which each example is in it; None: it is of shuffled data.
    """

    round: Round
    index: int
    steps: int
    batch: int
    examples: int
    epoch: int
    rate: float | None = None

    @property
    def last(self) -> bool:
        """Whether the client sends the result of this step."""
        return self.index == self.steps - 1


class LocalStepHook(ABC):  # noqa: B024 (each method has a default: to do nothing)
    """What a client does to each of its steps. Both functions are pure: state goes in and comes out."""

    per_example: bool = False
    """Whether `before_step` gets every example's gradient, shape (b, *parameter), or that of their mean.

    A Poisson batch has any number b of examples, none among them.
    """

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """What the step follows, of the parameters' shapes: by default the gradient."""
        return gradient, private

    def after_step(self, parameters: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """The parameters after the step: by default as they are. Not called where a client sends a gradient."""
        return parameters, private
