"""One round of given batches as training runs it, with everything that was sent and everything that came of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradwire.models.mode import copied
from gradwire.schemes import Outcome, Round, Scheme, State
from gradwire.seeds import generator
from gradwire.training.buffers import Buffers, average, running_statistics, share
from gradwire.training.contribution import contribution
from gradwire.training.local import descent
from gradwire.wire import InProcess, Own, Transcript, View
from gradwire.wire.view import LocalWork, Loss, Mode

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Played:
    """A round that has been played.

    Attributes:
        model: as it was before the round, which does not change it.
        batches: what each client held, party → images and labels; the first is the victim's.
        scheme: what was done to the updates, and `public`, its public state before the round.
        round: what is public of it.
        mode, loss, work: how the clients ran the network.
        transcript: every message.
        brought: what each client came to the exchange with, party → update and state.
        outcomes: what each client has at the end, party → outcome.
        buffers: the clients' mean running statistics; {} where none were sent.
    """

    model: nn.Module
    batches: Mapping[str, Batch]
    scheme: Scheme
    public: State
    round: Round
    mode: Mode
    loss: Loss
    work: LocalWork | None
    transcript: Transcript
    brought: Mapping[str, Own]
    outcomes: Mapping[str, Outcome]
    buffers: Buffers

    def seen_by(self, adversary: str, labels_known: bool = True, freeze: bool = True) -> View:
        """What the server, an eavesdropper or a fellow client, by its name, sees of the victim.

        Args:
            labels_known: whether the adversary is assumed to know the labels.
            freeze: copy the model, so that training may go on; False shares it with the view.
        """
        victim = self.round.clients[0]
        images, labels = self.batches[victim]
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
            mode=self.mode,
            loss=self.loss,
            shape=tuple(images.shape),
            labels=labels.detach().clone() if labels_known else None,
            fellow_labels=self._fellow_labels() if labels_known else None,
            own=self.brought.get(adversary),
            work=self.work,
        )

    def _fellow_labels(self) -> Tensor | None:
        """Those of the clients beside the victim, shape (|C| − 1, B), if they hold as many images as it does."""
        first, *rest = (labels.detach() for _, labels in self.batches.values())
        return torch.stack(rest) if rest and all(len(each) == len(first) for each in rest) else None


def play(
    model: nn.Module,
    batches: Mapping[str, Batch],
    scheme: Scheme,
    private: Mapping[str, State],
    public: State,
    round: Round,
    mode: Mode = "train",
    loss: Loss = cross_entropy,
    work: LocalWork | None = None,
) -> Played:
    """Every client's update through the scheme, and its running statistics beside it, as the round loop sends them.

    Args:
        batches: what each client of the round holds.
        private: each client's state before the round; `public`, the scheme's.
        mode: how clients run the network. In evaluation mode no running statistics change, and none are sent.
        work: local steps; None for a plain gradient.

    Raises:
        GradwireError: a batch, a label, a model or a gradient that cannot be, named in the message.
    """
    carried = running_statistics(model) if mode == "train" else []
    halves, statistics, brought = {}, {}, {}
    for party, batch in batches.items():
        order = generator("local", round.seed, round.index, party)
        steps = None if work is None else descent(work, len(batch[0]), round.index, order)
        came = contribution(model, *batch, scheme, party, private[party], round, steps, mode=mode, loss=loss)
        brought[party] = Own(came.update, came.private)
        halves[party] = scheme.client(came.update, came.private, public, round)
        statistics[party] = share({name: came.buffers[name].cpu() for name in carried})
    transport, averaged = InProcess(Transcript()), {}
    outcomes, _ = transport.exchange(halves, scheme.server(public, round), round.index)
    if carried:
        averaged = dict(next(iter(transport.exchange(statistics, average(), round.index)[0].values())))
    how = (model, batches, scheme, public, round, mode, loss, work)
    return Played(*how, transport.transcript, brought, outcomes, averaged)
