"""No scheme at all: every client sends its update as it is, and gets the mean."""

from dataclasses import dataclass
from typing import ClassVar

from gradwire.schemes.aggregate import mean
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Outcome, Round, Sight, State
from gradwire.schemes.scheme import Scheme
from gradwire.wire import ClientHalf, Send, ServerHalf


@dataclass(frozen=True)
class Plain(Scheme):
    """Plain distributed SGD: the baseline of everything."""

    name: ClassVar[str] = "none"

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the update, flat."""
        reply = yield Send("update", {"dense": round.layout.flatten(update)}, mean=True)
        return Outcome(round.layout.unflatten(reply["dense"]), public, private)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean."""
        uploads = yield None
        average = mean(uploads)
        yield Send("update", average)
        return Outcome(round.layout.unflatten(average["dense"]), public, {})

    def decode(self, sight: Sight) -> Update:
        """The update itself."""
        return sight.round.layout.unflatten(sight.uploads["update"]["dense"])

    def measure(self, sight: Sight) -> Measurement:
        """Every entry was sent."""
        return dense(self.decode(sight))
