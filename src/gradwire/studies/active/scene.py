"""The scene of a lie: clients with data of their own, their real halves, and a server that tells each what it likes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Layout, Outcome, Round, State, initial_states, parameters
from gradwire.schemes.sga import SGA
from gradwire.tasks import Task
from gradwire.wire import ClientHalf, Deal, Tensors, client

Said = Callable[["Played", str, str, Tensors], Tensors]
"""(the round so far, phase, party, what the protocol would say to it) → what the server says instead."""
VICTIM = client(0)


@dataclass(frozen=True)
class Scene:
    """A round that a lying server attacks. The victim is the first client; the last `colluders` side with the server.

    Attributes:
        model: as an honest server would hand it out.
        batches: inputs and targets of each client.
    """

    scheme: SGA
    model: nn.Module
    task: Task
    batches: Sequence[tuple[Tensor, Tensor]]
    colluders: int
    seed: int = 0

    @property
    def parties(self) -> tuple[str, ...]:
        """The clients."""
        return tuple(map(client, range(len(self.batches))))

    def gradient(self, party: str, model: nn.Module) -> dict[str, Tensor]:
        """What an honest client makes of its data and the model that it is given."""
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        inputs, targets = self.batches[self.parties.index(party)]
        loss = self.task.value(model, inputs, targets)
        return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))

    def states(self, model: nn.Module) -> dict[str, State]:
        """Private states before a first round."""
        return dict(initial_states(self.scheme, Layout.of_model(model), self.parties, self.seed))

    def round(self, index: int, model: nn.Module) -> Round:
        """A round as a client that was given this model takes it to be."""
        return Round(index, self.parties, self.seed, Layout.of_model(model), start=parameters(model))


@dataclass
class Played:
    """What the server has of a round in which it lied.

    Attributes:
        uploads: phase → party → tensors; `replies`, phase → what the protocol would say to the victim.
        refusals: what clients said when they would not go on.
        sum: of all updates, as the scheme's own server makes it out; None without one.
        halves: of the clients; the memory of colluders is the server's.
        ended: what those that came to the end have.
    """

    uploads: dict[str, dict[str, Tensors]] = field(default_factory=dict)
    replies: dict[str, Tensors] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    sum: Tensor | None = None
    halves: dict[str, ClientHalf[Outcome]] = field(default_factory=dict)
    ended: dict[str, Outcome] = field(default_factory=dict)


def play(
    scene: Scene,
    said: Said = lambda played, phase, party, tensors: tensors,
    models: Mapping[str, nn.Module] | None = None,
    index: int = 0,
    private: Mapping[str, State] | None = None,
) -> Played:
    """Run the clients' own halves against a server that lies.

    Args:
        models: what each client is given; by default, all the same.
        private: the clients' states; by default, those before a first round.
    """
    given = {party: (models or {}).get(party, scene.model) for party in scene.parties}
    private = scene.states(given[VICTIM]) if private is None else private
    layout, played = Layout.of_model(given[VICTIM]), Played()
    played.halves = {
        p: scene.scheme.client(scene.gradient(p, m), private[p], {}, scene.round(index, m)) for p, m in given.items()
    }
    server = scene.scheme.server({}, scene.round(index, given[VICTIM]))
    next(server)
    sends = {party: next(half) for party, half in played.halves.items()}
    try:
        while sends:
            phase = next(iter(sends.values())).phase
            uploads = {party: send.tensors for party, send in sends.items()}
            played.uploads[phase] = uploads
            reply = server.send(uploads)
            assert reply is not None
            hands = reply.tensors if isinstance(reply, Deal) else dict.fromkeys(uploads, reply.tensors)
            played.replies[phase] = hands.get(VICTIM) or next(iter(hands.values()), {})
            sends = {}
            for party in uploads:
                if party in reply.left_out:
                    continue
                try:
                    sends[party] = played.halves[party].send(said(played, phase, party, hands[party]))
                except StopIteration as stop:
                    played.ended[party] = stop.value
                except WireError as refusal:
                    played.refusals.append(str(refusal))
        if played.ended:
            server.send({})
    except StopIteration as stop:
        n = int(played.replies[phase]["contributors"])
        played.sum = layout.flatten(stop.value.aggregate) * n
    except GradwireError as error:
        played.refusals.append(str(error))
    return played
