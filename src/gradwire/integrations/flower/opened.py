"""Each client's own update as the server decodes it, for strategies that compare clients."""

from collections.abc import Mapping

from torch import Tensor

from gradwire.integrations.flower.served import ServedRound
from gradwire.rounds.halves import received
from gradwire.schemes import Observation, Round, Scheme, State
from gradwire.wire import BUFFERS, WEIGHTS, Tensors


def opened(
    scheme: Scheme, served: ServedRound, public: State, round: Round, buffers: Tensors, lr: float
) -> dict[str, Mapping[str, Tensor]]:
    """Client → its arrays after the round: those that it was sent less its update, and its running statistics.

    Args:
        public: the scheme's public state before the round.
        buffers: as they were before it.
        lr: the size of a step along an update.
    """
    assert round.start is not None
    found: dict[str, Mapping[str, Tensor]] = {}
    for party in served.session.parties:
        uploads = dict(served.sent[party])
        weight = float(uploads.pop(WEIGHTS)["weight"]) if WEIGHTS in uploads else 1.0
        statistics = {name: tensor / weight for name, tensor in uploads.pop(BUFFERS, {}).items()}
        observation = Observation(uploads, served.replies.get(party, {}), public, round, party)
        update = round.layout.restored(scheme.decode(observation))
        moved = {name: start - lr / weight * update[name] for name, start in round.start.items()}
        found[party] = {**moved, **received(statistics, buffers)}
    return found
