"""Capture: run one round as training runs it, and keep what an adversary sees of it."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, Scheme, State, initial_states, parameters, parse
from gradwire.training.local import local_work
from gradwire.training.play import Batch, play
from gradwire.wire import View, client
from gradwire.wire.view import Loss, Mode


def capture(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    scheme: str | Scheme = "none",
    *,
    adversary: str = "server",
    fellows: Sequence[Batch] = (),
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    labels_known: bool = True,
    private: Mapping[str, State] | None = None,
    public: State | None = None,
    round: int = 0,
    seed: int = 0,
    freeze: bool = True,
    local_steps: int | None = None,
    local_batch: int | None = None,
    lr: float = 1.0,
    weight_decay: float = 0.0,
) -> View:
    """Run one round in which a client sends the gradient of one batch, and keep what `adversary` sees of it.

    Args:
        model: takes images (B, C, H, W) in [0, 1], gives logits (B, classes). It is copied, not changed; a scheme that
            trains another network (precode) makes it of the copy.
        inputs: the victim's batch, shape (B, C, H, W), in [0, 1].
        labels: int64, shape (B,).
        scheme: a spec such as "powersgd:rank=4", or a scheme.
        adversary: "server", "eavesdropper", or "client" (the first of the fellows).
        fellows: batches of the round's other clients. None: the victim is alone in the round.
        mode: how the victim runs the network, "train" or "eval".
        loss: of logits and labels.
        labels_known: whether the adversary is assumed to know the labels.
        private: each client's scheme state (residuals) before the round, party → state; the victim is "client:0".
            By default those of a first round.
        public: the scheme's public state before the round; by default that of a first round.
        round: the round's number, and `seed`, the run's public seed.
        freeze: copy the model, so that training may go on; False shares it with the view.
        local_steps: send what so many steps of SGD change (old − new parameters) in place of a gradient, in steps of
            `local_batch` images (by default all of them) and size `lr`.
        weight_decay: adds weight_decay·parameter to what each step, or the one gradient, follows.

    Raises:
        GradwireError: a batch, a label, a model or a gradient that cannot be, named in the message.
    """
    chosen = parse(scheme) if isinstance(scheme, str) else scheme
    batches = {client(i): batch for i, batch in enumerate([(inputs, labels), *fellows])}
    chosen.check_local(local_steps is not None)
    parties, network = tuple(batches), chosen.adapt(model, seed)
    watcher, layout = watching(adversary, parties), Layout.of_model(network)
    public = chosen.public_state(layout) if public is None else public
    private = initial_states(chosen, layout, parties, seed) if private is None else private
    work = local_work(local_steps, len(inputs) if local_batch is None else local_batch, lr, weight_decay)
    context = Round(round, parties, seed, layout, start=parameters(network))
    played = play(network, batches, chosen, private, public, context, mode, loss, work)
    return played.seen_by(watcher, labels_known, freeze)


def watching(adversary: str, parties: Sequence[str]) -> str:
    """The adversary's name in a round of these parties, the first of whom is the victim.

    Raises:
        GradwireError: an unknown adversary, or a fellow client where the victim is alone.
    """
    if adversary in ("server", "eavesdropper"):
        return adversary
    if adversary != "client":
        raise GradwireError(f"unknown adversary {adversary!r}; known: server, eavesdropper, client")
    if len(parties) < 2:
        raise GradwireError("adversary 'client' needs a fellow: a round with the victim alone has none")
    return parties[1]
