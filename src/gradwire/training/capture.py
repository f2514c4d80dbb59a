"""Capture: run one round as training runs it, and keep what an adversary sees of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.errors import GradwireError
from gradwire.models.mode import copied
from gradwire.rounds import RoundResult, run_round
from gradwire.schemes import (
    Contribution,
    Layout,
    Round,
    Scheme,
    State,
    Weights,
    adapted,
    initial_states,
    parameters,
)
from gradwire.training.batches import descents, step_sizes
from gradwire.training.client import Computation, Descent
from gradwire.training.cohort import cohort_plan, contributions
from gradwire.training.loop import check, local_work
from gradwire.training.settings import TrainSettings
from gradwire.wire import InProcess, Own, Transcript, View, client, drop_out
from gradwire.wire.view import LocalWork, Loss, Mode

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W) in [0, 1] and labels, int64, (B,)."""


def capture(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    scheme: str | Scheme = "none",
    *,
    adversary: str = "server",
    fellows: Sequence[Batch] = (),
    parties: Sequence[str] = (),
    weights: Sequence[float] = (),
    drop: Mapping[str, str] | None = None,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    labels_known: bool = True,
    private: Mapping[str, State] | None = None,
    public: State | None = None,
    round: int = 0,
    epoch: int = 0,
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
        parties: names of the victim and its fellows, as a sample of a run's clients has; by default client:0, …
        weights: how many examples each of them has, where the mean is weighted by that; by default all count alike.
        drop: party → the phase before which it vanishes.
        mode: how the victim runs the network, "train" or "eval".
        loss: of logits and labels.
        labels_known: whether the adversary is assumed to know the labels.
        private: each client's scheme state (residuals) before the round, party → state. By default those of a first
            round.
        public: the scheme's public state before the round; by default that of a first round.
        round: the round's number, `epoch`, passes over the data before it, and `seed`, the run's public seed.
        freeze: copy the model, so that training may go on; False shares it with the view.
        local_steps: send what so many steps of SGD change (old − new parameters) in place of a gradient, in steps of
            `local_batch` images (by default all of them) and size `lr`.
        weight_decay: adds weight_decay·parameter to what each step, or the one gradient, follows.

    Raises:
        GradwireError: a batch, a label, a model or a gradient that cannot be, named in the message.
    """
    settings = _settings(scheme, len(inputs), len(fellows) + 1, local_steps, local_batch, lr, weight_decay, seed)
    chosen = check(settings, InProcess())
    batches = [(inputs, labels), *fellows]
    names = tuple(parties) or tuple(client(i) for i in range(len(batches)))
    if len(names) != len(batches) or (weights and len(weights) != len(batches)):
        raise GradwireError(
            f"{len(names)} parties and {len(weights)} weights for {len(batches)} batches; each needs one"
        )
    watcher = watching(adversary, names)
    if drop and watcher not in ("server", "eavesdropper"):
        raise GradwireError("adversary 'client' cannot take its own part out of the mean of a round with dropouts")
    network = adapted(chosen, model, seed)
    layout = Layout.of_model(network)
    counting: Weights = "equal" if not weights else "scaled" if chosen.sums_only else "told"
    context = Round(round, names, seed, layout, epoch, parameters(network), counting)
    public = chosen.public_state(layout) if public is None else public
    private = initial_states(chosen, layout, names, seed) if private is None else private
    work = local_work(settings) if settings.local else None
    if work is None and weight_decay:
        work = LocalWork(1, len(inputs), 1.0, weight_decay)
    held = dict(zip(names, batches, strict=True))
    relative = {p: w * len(names) / sum(weights) for p, w in zip(names, weights, strict=False)}
    how = Computation(mode, loss)
    captured = run(network, held, settings, chosen, private, public, context, how, work, relative, drop)
    return captured.seen_by(watcher, labels_known, freeze)


def capture_rounds(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    scheme: str | Scheme,
    rounds: int,
    *,
    lr: float = 0.0,
    adversary: str = "server",
    fellows: Sequence[Batch] = (),
    mode: Mode = "train",
    labels_known: bool = True,
    seed: int = 0,
) -> list[View]:
    """The views of rounds 0 to `rounds` − 1, in each of which the victim's gradient is of the same batch.

    Between them, the scheme's state goes on, and the model takes a step of size `lr` along the aggregate (0: it stays
    as it is). The first round begins without a residual.

    Raises:
        GradwireError: fewer than one round, or as `capture`.
    """
    if rounds < 1:
        raise GradwireError(f"rounds is {rounds}; it must be at least 1")
    settings = _settings(scheme, len(inputs), len(fellows) + 1, None, None, 1.0, 0.0, seed)
    chosen, views = check(settings, InProcess()), []
    network = copied(adapted(chosen, model, seed))
    layout = Layout.of_model(network)
    held = {client(i): batch for i, batch in enumerate([(inputs, labels), *fellows])}
    watcher = watching(adversary, tuple(held))
    public, private = chosen.public_state(layout), initial_states(chosen, layout, tuple(held), seed)
    for index in range(rounds):
        context = Round(index, tuple(held), seed, layout, start=parameters(network))
        captured = run(network, held, settings, chosen, private, public, context, Computation(mode))
        views.append(captured.seen_by(watcher, labels_known))
        private, public = dict(captured.result.private), captured.result.public
        with torch.no_grad():
            for name, change in captured.result.aggregate.items():
                network.get_parameter(name).sub_(lr * change.to(inputs.device))
            for name, value in captured.result.buffers.items():
                network.get_buffer(name).copy_(value)
    return views


@dataclass(frozen=True)
class Captured:
    """A round that has been run.

    Attributes:
        model: as it was before the round, which does not change it.
        batches: what each client held, party → images and labels; the first is the victim's.
        scheme: what was done to the updates, and `public`, its public state before the round.
        round: what is public of it.
        how, work: how the clients ran the network.
        transcript: every message.
        brought: what each client came to the exchange with.
        result: what came of it.
    """

    model: nn.Module
    batches: Mapping[str, Batch]
    scheme: Scheme
    public: State
    round: Round
    how: Computation
    work: LocalWork | None
    transcript: Transcript
    brought: Mapping[str, Contribution]
    result: RoundResult

    def seen_by(self, adversary: str, labels_known: bool = True, freeze: bool = True) -> View:
        """What the server, an eavesdropper or a fellow client, by its name, sees of the victim.

        Args:
            labels_known: whether the adversary is assumed to know the labels.
            freeze: copy the model, so that training may go on; False shares it with the view.
        """
        victim = self.round.clients[0]
        images, labels = self.batches[victim]
        mine = self.brought.get(adversary)
        own = None if mine is None else Own({n: t * mine.weight for n, t in mine.update.items()}, mine.private)
        return View(
            adversary=adversary,
            victim=victim,
            messages=self.transcript.seen_by(adversary),
            bytes_up=self.transcript.bytes_up(victim),
            bytes_down=self.transcript.bytes_down(victim),
            scheme=self.scheme.spec,
            public=self.public,
            clients=self.round.clients,
            round=self.round.index,
            seed=self.round.seed,
            model=copied(self.model) if freeze else self.model,
            mode=self.how.mode,
            loss=self.how.loss,
            shape=tuple(images.shape),
            labels=labels.detach().clone() if labels_known else None,
            fellow_labels=self._fellow_labels() if labels_known else None,
            own=own,
            work=self.work,
            weights=self.round.weights,
        )

    def _fellow_labels(self) -> Tensor | None:
        """Those of the clients beside the victim, shape (|C| − 1, B), if they hold as many images as it does."""
        first, *rest = (labels.detach() for _, labels in self.batches.values())
        return torch.stack(rest) if rest and all(len(each) == len(first) for each in rest) else None


def run(
    model: nn.Module,
    batches: Mapping[str, Batch],
    settings: TrainSettings,
    scheme: Scheme,
    private: Mapping[str, State],
    public: State,
    round: Round,
    how: Computation,
    work: LocalWork | None = None,
    weights: Mapping[str, float] | None = None,
    drop: Mapping[str, str] | None = None,
) -> Captured:
    """One round of given batches, as the round loop runs it.

    Args:
        batches: what each client of the round holds: the batch whose gradient it sends, or all its examples.
        private: each client's state before the round; `public`, the scheme's.
        work: local steps; None for a plain gradient.
        weights: of the clients, 1 in the mean. `drop`: party → the phase before which it vanishes.
    """
    sizes = {party: len(labels) for party, (_, labels) in batches.items()}
    if settings.local:
        tasks = {party: descents(settings, party, size, round.index) for party, size in sizes.items()}
    else:
        decay = 0.0 if work is None else work.weight_decay
        tasks = {
            p: Descent([torch.arange(n)], [round.index], weight_decay=decay, local=False) for p, n in sizes.items()
        }
    ends = torch.tensor(list(sizes.values())).cumsum(0).tolist()
    shards = {party: torch.arange(end - sizes[party], end) for party, end in zip(batches, ends, strict=True)}
    held = _Held(list(batches.values()))
    device, shape = str(held.images.device), held.images.shape[1:]
    steps = [step_sizes(settings, size) for size in sizes.values()]
    plan = cohort_plan(scheme, model, tuple(shape), steps, len(batches), settings.local, how, device)  # type: ignore[arg-type]
    came = contributions(model, held, shards, tasks, scheme, private, round, plan, how, device)
    came = {party: replace(brought, weight=(weights or {}).get(party, 1.0)) for party, brought in came.items()}
    carrier, gone = InProcess(Transcript()), drop or {}
    result = run_round(
        scheme,
        came,
        public,
        round,
        carrier,
        lambda party, half: drop_out(half, gone[party]) if party in gone else half,
    )
    return Captured(model, batches, scheme, public, round, how, work, carrier.transcript, came, result)


class _Held:
    """Given batches, one after another."""

    def __init__(self, batches: Sequence[Batch]):
        if any(images.shape[1:] != batches[0][0].shape[1:] for images, _ in batches):
            raise GradwireError(f"clients hold images of shapes {[tuple(x.shape) for x, _ in batches]}; one is needed")
        self.images, self.labels = (torch.cat([batch[kind] for batch in batches]) for kind in (0, 1))

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        where = torch.as_tensor(indices, device=self.images.device)
        return self.images[where], self.labels[where]


def _settings(
    scheme: str | Scheme,
    examples: int,
    clients: int,
    steps: int | None,
    batch: int | None,
    lr: float,
    weight_decay: float,
    seed: int,
) -> TrainSettings:
    """The settings of the training that such a round would be part of.

    Raises:
        GradwireError: as `TrainSettings`, or a number of examples that `batch` does not divide.
    """
    size = examples if batch is None else batch
    if size < 1:
        raise GradwireError(f"local_batch is {batch}; it must be at least 1")
    if examples and examples % size:
        raise GradwireError(f"local_batch is {size}; it must divide the {examples} images of the client")
    spec = scheme if isinstance(scheme, str) else scheme.spec
    return TrainSettings(
        spec,
        clients,
        rounds=1,
        batch_size=max(1, size),
        local_steps=steps,
        lr=lr,
        momentum=0.0,
        weight_decay=weight_decay,
        seed=seed,
    )


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
