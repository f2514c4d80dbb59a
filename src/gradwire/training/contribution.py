"""What one client's training brings to a round, with whatever the scheme has it do on the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.schemes import LocalStep, Round, Scheme, State, Update
from gradwire.seeds import number
from gradwire.training.buffers import Buffers
from gradwire.training.local import Descent, direction, local_update
from gradwire.wire.view import Loss, Mode


@dataclass(frozen=True)
class Contribution:
    """What a client comes to the exchange with.

    Attributes:
        loss: the mean over its steps' examples.
        update: a gradient, or old − new parameters; on the CPU.
        buffers: what its last forward pass left.
        private: its state under the scheme, as training left it.
    """

    loss: float
    update: Update
    buffers: Buffers
    private: State


def contribution(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    scheme: Scheme,
    party: str,
    private: State,
    round: Round,
    descent: Descent | None = None,
    *,
    examples: int | None = None,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    finite: bool = True,
) -> Contribution:
    """Train as one client does in one round. Training and capture both come by here: what is attacked is what is sent.

    Whatever the network draws (dropout, a bottleneck's noise) is decided by the run's seed, the round and the party;
    the global generator is left as it was.

    Args:
        model: the network that is trained under the scheme (`Scheme.adapt`). It is not changed.
        inputs: the batch, or all that the client has where it takes several steps, shape (B, C, H, W).
        private: the client's state before the round.
        descent: the client's own steps; None for the gradient of one batch.
        examples: how many images the client has in all; by default those given.
        finite: whether to insist that a gradient is.

    Raises:
        GradwireError: as `gradient` and `local_update`.
    """
    examples = len(inputs) if examples is None else examples
    with drawing(number("training", round.seed, round.index, party), str(inputs.device)):
        if descent is None:
            step = LocalStep(round, 0, 1, len(inputs), examples, round.index // (examples // len(inputs)))
            value, update, buffers, private = direction(
                model, inputs, labels, scheme.step_hook, private, step, mode, loss, finite
            )
        else:
            value, update, buffers, private = local_update(
                model, inputs, labels, descent, mode, loss, scheme.step_hook, private, round, finite
            )
    return Contribution(value, {name: g.cpu() for name, g in update.items()}, buffers, private)


@contextmanager
def drawing(seed: int, device: str) -> Iterator[None]:
    """Seed the global generators of the CPU and of a device for a while."""
    kind = torch.device(device).type
    with torch.random.fork_rng(devices=[device] if kind == "cuda" else []):
        # torch.manual_seed would seed the generators of every accelerator too, and nothing would set them back.
        torch.default_generator.manual_seed(seed)
        if kind == "cuda":
            torch.cuda.manual_seed(seed)
        yield
