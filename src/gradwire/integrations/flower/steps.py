"""The lines that a training function has for schemes with a hand in training: `local_steps` and `scheme_network`.

>>> net = scheme_network(Net(), "precode")  # for schemes that train a network of their own; others leave it as it is
>>> net.load_state_dict(message.content["arrays"].to_torch_state_dict())
>>> loss = local_steps(net, inputs, targets, epochs=1, batch=32, lr=0.1)  # in place of the loop of loss and optimiser

`local_steps` is SGD, with what the scheme does to each step: dpsgd clips and adds noise, autoencoder perturbs. Without
a mod around it is plain SGD, so that one training function serves all schemes and none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, adapted, parse
from gradwire.seeds import generator
from gradwire.tasks import Task
from gradwire.training.client import Computation, Descent, contribution
from gradwire.wire import Need
from gradwire.wire.view import Mode


@dataclass
class Hand:
    """The scheme's hand in one client's training of one round.

    Attributes:
        lr: of the server, where the scheme wants the gradient of one step; 0 where it wants what training changes.
        passes: over the client's data before, and then after.
        order: the seed of the batches' order, the client's own.
        network: whether the training function has asked for the scheme's network.
        brought: what came of `local_steps`; None before it was called.
        after: the trained parameters.
    """

    scheme: Scheme
    party: str
    private: State
    round: Round
    lr: float = 0.0
    passes: int = 0
    order: int = 0
    network: bool = False
    brought: Contribution | None = None
    after: dict[str, Tensor] = field(default_factory=dict)

    def check(self, after: dict[str, Tensor]) -> None:
        """Refuse trained parameters on which the scheme had not the hand that it needs.

        Raises:
            GradwireError: naming the line that is missing.
        """
        spec = self.scheme.spec
        if self.scheme.network is not None and not self.network:
            raise GradwireError(f"{spec} trains a network of its own: net = scheme_network(Net(), {spec!r})")
        if self.brought is None:
            for need in (Need.LOCAL_STEPS, Need.SINGLE_GRADIENT):
                if need in self.scheme.needs:
                    raise GradwireError(f"{spec} needs {need.value}: train by local_steps(net, inputs, targets, …)")
        elif any(not torch.equal(after[name], tensor) for name, tensor in self.after.items()):
            raise GradwireError(f"the trained arrays are not those that local_steps left of {spec}")


_HAND: ContextVar[Hand | None] = ContextVar("gradwire_hand", default=None)


@contextmanager
def hand(lent: Hand) -> Iterator[Hand]:
    """Lend a scheme's hand to whatever trains within the block."""
    token = _HAND.set(lent)
    try:
        yield lent
    finally:
        _HAND.reset(token)


def scheme_network(model: nn.Module, scheme: str | Scheme, seed: int = 0) -> nn.Module:
    """The network that is trained under a scheme, in ClientApp and ServerApp alike: mostly the one given."""
    found, lent = parse(scheme), _HAND.get()
    if lent is not None:
        lent.network = lent.scheme == found
    return adapted(found, model, seed)


def local_steps(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    lr: float,
    batch: int = 32,
    epochs: int = 1,
    steps: int | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    mode: Mode = "train",
    task: Task | None = None,
) -> float:
    """Train a network in place by SGD, under the scheme of the mod around the training function.

    Args:
        model: with the server's arrays loaded.
        inputs: of all the client's examples, shape (N, *domain.shape), and their targets.
        epochs: passes over them, each in a new order; `steps`: take so many steps of a new pass instead.
        batch: examples a step; the last step of a pass may have fewer.
        task: the domain and the loss; by default images in [0, 1] and class numbers. See `gradwire.tasks.task_of`.

    Returns:
        the mean loss over the steps' examples.

    Raises:
        GradwireError: a batch, a target or a model that cannot be; a scheme of single gradients and more than one step.
    """
    lent = _HAND.get()
    if lent is None:
        update = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        lent = Hand(parse("none"), "client:0", {}, Round(0, ("client:0",), 0, Layout.of(update)))
        lent.order = int(torch.randint(2**62, ()))
    if lent.brought is not None:
        raise GradwireError("local_steps was called twice in one round; one call trains all of it")
    plan, passes = _plan(lent, len(inputs), batch, epochs, steps)
    if lent.lr and (len(plan), lr, momentum) != (1, lent.lr, 0.0):
        asked = f"{len(plan)} steps of size {lr} with momentum {momentum}"
        raise GradwireError(f"{lent.scheme.spec} sends one gradient a round, not {asked}: steps=1, lr={lent.lr}")
    descent = Descent(plan, passes, lr, momentum, weight_decay, local=not lent.lr)
    how = Computation(mode, task)
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    brought = contribution(model, inputs, targets, lent.scheme, lent.party, lent.private, lent.round, descent, how)
    with torch.no_grad():
        for name, before in start.items():
            factor = lent.lr or 1.0
            model.get_parameter(name).copy_(before - factor * brought.update[name].to(before.device))
        for name, value in brought.buffers.items():
            model.get_buffer(name).copy_(value)
    lent.brought, lent.passes = brought, passes[-1] + 1
    lent.after = {name: model.get_parameter(name).detach().cpu().clone() for name in start}
    return brought.loss


def _plan(lent: Hand, examples: int, batch: int, epochs: int, steps: int | None) -> tuple[list[Tensor], list[int]]:
    """The positions of each step's examples, and the pass over the data that it belongs to."""
    if min(examples, batch, epochs, 1 if steps is None else steps) < 1:
        raise GradwireError(f"local_steps: {examples} examples, batch {batch}, epochs {epochs}; all must be at least 1")
    plan, passes, each = list[Tensor](), list[int](), lent.passes
    while (each < lent.passes + epochs) if steps is None else (len(plan) < steps):
        order = torch.randperm(examples, generator=generator("batches", lent.order, each))
        taken = order.split(batch)[: None if steps is None else steps - len(plan)]
        plan, passes, each = [*plan, *taken], [*passes, *[each] * len(taken)], each + 1
    return plan, passes
