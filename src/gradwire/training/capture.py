"""Capture: run one round as training runs it, and keep what an adversary sees of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.mode import copied
from gradwire.rounds import RoundResult, run_round
from gradwire.schemes import (
    Contribution,
    Layout,
    Outcome,
    Round,
    Scheme,
    State,
    Weights,
    adapted,
    initial_states,
    parameters,
    spec_of,
)
from gradwire.tasks import Task, task_of
from gradwire.training.batches import descents, step_sizes
from gradwire.training.client import Computation, Descent
from gradwire.training.cohort import cohort_plan, contributions
from gradwire.training.loop import check, local_work
from gradwire.training.settings import TrainSettings
from gradwire.wire import ClientHalf, InProcess, Own, Transcript, View, client, drop_out
from gradwire.wire.view import LocalWork, Mode

Batch = tuple[Tensor, Tensor]
"""Inputs (B, *shape) and their targets."""


def capture(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    scheme: str | Scheme = "none",
    *,
    task: Task | None = None,
    adversary: str = "server",
    fellows: Sequence[Batch] = (),
    parties: Sequence[str] = (),
    weights: Sequence[float] = (),
    drop: Mapping[str, str] | None = None,
    mode: Mode = "train",
    targets_known: bool = True,
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
        model: takes what the task's domain holds, gives what its loss takes. It is copied, not changed; a scheme that
            trains another network (precode) makes it of the copy.
        inputs: the victim's batch, shape (B, *domain.shape).
        targets: such as class numbers, int64, (B,).
        scheme: a spec such as "powersgd:rank=4", or a scheme.
        adversary: "server", "eavesdropper", or "client" (the first of the fellows).
        fellows: batches of the round's other clients. None: the victim is alone in the round.
        parties: names of the victim and its fellows, as a sample of a run's clients has; by default client:0, …
        weights: how many examples each of them has, where the mean is weighted by that; by default all count alike.
        drop: party → the phase before which it vanishes.
        mode: how the victim runs the network, "train" or "eval".
        task: the domain and the loss; by default, images (B, C, H, W) in [0, 1] and class numbers. A function of the
            network's output and the targets makes one by `tasks.task_of(inputs, function)`.
        targets_known: whether the adversary is assumed to know the targets.
        private: each client's scheme state (residuals) before the round, party → state. By default those of a first
            round.
        public: the scheme's public state before the round; by default that of a first round.
        round: the round's number, `epoch`, passes over the data before it, and `seed`, the run's public seed.
        freeze: copy the model, so that training may go on; False shares it with the view.
        local_steps: send what so many steps of SGD change (old − new parameters) in place of a gradient, in steps of
            `local_batch` examples (by default all of them) and size `lr`.
        weight_decay: adds weight_decay·parameter to what each step, or the one gradient, follows.

    Raises:
        GradwireError: a batch, a label, a model or a gradient that cannot be, named in the message.
    """
    setting = _Setting.of(
        [(inputs, targets), *fellows],
        scheme,
        adversary,
        parties,
        seed,
        (local_steps, local_batch, lr, weight_decay),
        Computation(mode, task_of(inputs) if task is None else task),
        targets_known,
        weights,
        drop or {},
    )
    network = adapted(setting.scheme, model, seed)
    view, _ = setting.round(network, public, private, round, epoch)
    return replace(view, model=copied(network)) if freeze else view


def capture_rounds(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    scheme: str | Scheme,
    rounds: int,
    *,
    task: Task | None = None,
    lr: float = 0.0,
    adversary: str = "server",
    fellows: Sequence[Batch] = (),
    mode: Mode = "train",
    targets_known: bool = True,
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
    held, work = [(inputs, targets), *fellows], (None, None, 1.0, 0.0)
    how = Computation(mode, task_of(inputs) if task is None else task)
    setting = _Setting.of(held, scheme, adversary, (), seed, work, how, targets_known, (), {})
    network = copied(adapted(setting.scheme, model, seed))
    views: list[View] = []
    public: State | None = None
    private: Mapping[str, State] | None = None
    for index in range(rounds):
        view, result = setting.round(network, public, private, index)
        views.append(replace(view, model=copied(network)))
        private, public = result.private, result.public
        with torch.no_grad():
            for name, change in result.aggregate.items():
                network.get_parameter(name).sub_(lr * change.to(inputs.device))
            for name, value in result.buffers.items():
                network.get_buffer(name).copy_(value)
    return views


@dataclass(frozen=True)
class _Setting:
    """Who takes part in captured rounds, with what, and who watches.

    Attributes:
        settings: of the training that such a round would be part of.
        held: what each client holds, party → inputs and targets: the batch whose gradient it sends, or all that it
            has; the victim's first.
        watcher: the adversary's name.
        work: the local work that the adversary is told of; None where a plain gradient is sent.
        weights: of the clients, 1 in the mean; {} where they count alike. `drop`: party → where it vanishes.
    """

    settings: TrainSettings
    scheme: Scheme
    held: Mapping[str, Batch]
    watcher: str
    work: LocalWork | None
    how: Computation
    targets_known: bool
    weights: Mapping[str, float]
    drop: Mapping[str, str]

    @classmethod
    def of(
        cls,
        batches: Sequence[Batch],
        scheme: str | Scheme,
        adversary: str,
        parties: Sequence[str],
        seed: int,
        work: tuple[int | None, int | None, float, float],
        how: Computation,
        targets_known: bool,
        weights: Sequence[float],
        drop: Mapping[str, str],
    ) -> "_Setting":
        """Check what `capture` was given; `work` holds local steps, local batch, step size and weight decay.

        Raises:
            GradwireError: as `capture`.
        """
        steps, batch, lr, decay = work
        examples = len(batches[0][0])
        size = max(1, examples) if batch is None else batch
        if size < 1 or examples % size:
            raise GradwireError(f"local_batch is {size}; it must divide the {examples} examples of the client")
        names = tuple(parties) or tuple(client(i) for i in range(len(batches)))
        if len(names) != len(batches) or (weights and len(weights) != len(batches)):
            has = f"{len(names)} parties and {len(weights)} weights"
            raise GradwireError(f"{len(batches)} batches have {has}; each needs one")
        settings = TrainSettings(
            spec_of(scheme),
            clients=len(batches),
            rounds=1,
            batch_size=size,
            local_steps=steps,
            lr=lr,
            momentum=0.0,
            weight_decay=decay,
            seed=seed,
        )
        chosen, watcher = check(settings, InProcess()), watching(adversary, names)
        if drop and watcher not in ("server", "eavesdropper"):
            raise GradwireError("adversary 'client' cannot take its own part out of the mean of a round with dropouts")
        plain = LocalWork(1, examples, 1.0, decay) if decay else None
        relative = {party: w * len(names) / sum(weights) for party, w in zip(names, weights, strict=False)}
        held = dict(zip(names, batches, strict=True))
        done = local_work(settings) if settings.local else plain
        return cls(settings, chosen, held, watcher, done, how, targets_known, relative, drop)

    def round(
        self, model: nn.Module, public: State | None, private: Mapping[str, State] | None, index: int, epoch: int = 0
    ) -> tuple[View, RoundResult]:
        """One round as the round loop runs it: what the adversary sees, with the model itself, and what came of it."""
        names, layout, seed = tuple(self.held), Layout.of_model(model), self.settings.seed
        public = self.scheme.public_state(layout) if public is None else public
        private = initial_states(self.scheme, layout, names, seed) if private is None else private
        counting: Weights = "equal" if not self.weights else "scaled" if self.scheme.sums_only else "told"
        around = Round(index, names, seed, layout, epoch, parameters(model), counting)
        came = self._contributions(model, private, around)
        carrier = InProcess(Transcript())
        result = run_round(self.scheme, came, public, around, carrier, self._exposed)
        victim, mine = names[0], came.get(self.watcher)
        inputs, targets = self.held[victim]
        view = View(
            adversary=self.watcher,
            victim=victim,
            messages=carrier.transcript.seen_by(self.watcher),
            bytes_up=carrier.transcript.bytes_up(victim),
            bytes_down=carrier.transcript.bytes_down(victim),
            scheme=self.scheme.spec,
            public=public,
            clients=names,
            round=index,
            seed=seed,
            model=model,
            mode=self.how.mode,
            task=self.task,
            shape=tuple(inputs.shape),
            targets=targets.detach().clone() if self.known else None,
            fellow_targets=self._fellow_targets() if self.known else None,
            own=None if mine is None else Own({n: t * mine.weight for n, t in mine.update.items()}, mine.private),
            work=self.work,
            weights=counting,
        )
        return view, result

    def _contributions(self, model: nn.Module, private: Mapping[str, State], around: Round) -> dict[str, Contribution]:
        """What each client comes to the exchange with."""
        settings = self.settings
        sizes = {party: len(inputs) for party, (inputs, _) in self.held.items()}
        if settings.local:
            tasks = {party: descents(settings, party, size, around.index) for party, size in sizes.items()}
        else:
            decay = settings.weight_decay
            tasks = {
                party: Descent([torch.arange(size)], [around.index], weight_decay=decay, local=False)
                for party, size in sizes.items()
            }
        ends = torch.tensor(list(sizes.values())).cumsum(0).tolist()
        shards = {party: torch.arange(end - sizes[party], end) for party, end in zip(sizes, ends, strict=True)}
        held = _Held(list(self.held.values()))
        device = str(held.inputs.device)
        steps = [step_sizes(settings, size) for size in sizes.values()]
        plan = cohort_plan(self.scheme, model, self.task, steps, len(sizes), settings.local, self.how, device)
        came = contributions(model, held, shards, tasks, self.scheme, private, around, plan, self.how, device)
        return {party: replace(brought, weight=self.weights.get(party, 1.0)) for party, brought in came.items()}

    @property
    def task(self) -> Task:
        assert self.how.task is not None
        return self.how.task

    @property
    def known(self) -> bool:
        """Whether the adversary is told the targets: never where they are the inputs."""
        return self.targets_known and not self.task.loss.from_inputs

    def _exposed(self, party: str, half: ClientHalf[Outcome]) -> ClientHalf[Outcome]:
        return drop_out(half, self.drop[party]) if party in self.drop else half

    def _fellow_targets(self) -> Tensor | None:
        """Those of the clients beside the victim, shape (|C| − 1, B, …), if they hold as many examples as it does."""
        first, *rest = (targets.detach() for _, targets in self.held.values())
        return torch.stack(rest) if rest and all(each.shape == first.shape for each in rest) else None


class _Held:
    """Given batches, one after another."""

    def __init__(self, batches: Sequence[Batch]):
        if any(inputs.shape[1:] != batches[0][0].shape[1:] for inputs, _ in batches):
            raise GradwireError(f"clients hold inputs of shapes {[tuple(x.shape) for x, _ in batches]}; one is needed")
        for inputs, targets in batches:
            if len(inputs) != len(targets):
                raise GradwireError(f"{len(inputs)} inputs have {len(targets)} targets; each needs one")
        self.inputs, self.targets = (torch.cat([batch[kind] for batch in batches]) for kind in (0, 1))

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        where = torch.as_tensor(indices, device=self.inputs.device)
        return self.inputs[where], self.targets[where]


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
