"""Messages of single entries with their positions, and the server that answers with their mean."""

from dataclasses import dataclass

from gradwire.errors import WireError
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.sparse import Sparse, merge, supports
from gradwire.wire import Send, ServerHalf, Tensors


@dataclass(frozen=True)
class SparseMessages(Scheme):
    """A scheme whose clients send some entries of a flat update; which, and of what, its client half says."""

    def write(self, entries: Sparse) -> Tensors:
        """The tensors of a message."""
        return entries.tensors()

    def read(self, tensors: Tensors, size: int) -> Sparse:
        """The entries of a message about `size` of them.

        Raises:
            WireError: as `Sparse.of`.
        """
        return Sparse.of(tensors, size)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean over clients, on the union of what they sent."""
        uploads = yield None
        average = merge([self.read(tensors, round.layout.size) for tensors in uploads.values()])
        yield Send("entries", self.write(average))
        return Outcome(average.update(round.layout), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """Values of the layout's dtype at positions within the model."""
        sent = self.read(tensors, round.layout.size)
        if sent.values.dtype != round.layout.dtype or sent.values.ndim != 1:
            kind = f"shape {tuple(sent.values.shape)} of {sent.values.dtype}"
            raise WireError(f"'values' holds {kind}; a vector of {round.layout.dtype} was due")

    def decode(self, observation: Observation) -> Update:
        """The sent entries, and zero elsewhere."""
        return self._sent(observation).update(observation.round.layout)

    def measure(self, observation: Observation) -> Measurement:
        """The sent entries alone: where nothing was sent, nothing is known."""
        return supports(self._sent(observation), observation.round.layout)

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean of what the others sent: the reply less this client's part, where anything is left."""
        n, size = len(round.clients), round.layout.size
        others = (n * self.read(reply, size).dense() - self.read(own, size).dense()) / (n - 1)
        return self.write(Sparse.pick(others, others.nonzero()[:, 0]))

    def _sent(self, observation: Observation) -> Sparse:
        return self.read(observation.uploads["entries"], observation.round.layout.size)
