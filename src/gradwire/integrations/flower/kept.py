"""What a client keeps of a run between two messages, in the state that Flower holds for it."""

import logging
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

from gradwire.errors import WireError
from gradwire.integrations.flower.records import KEY, arrays, pack, unpack
from gradwire.rounds import ClientRound
from gradwire.schemes import State

ANSWER, HELD = f"{KEY}.answer/", f"{KEY}.held"
NUMBERS = ("secret", "turn", "passes")
log = logging.getLogger(__name__)


@dataclass
class Kept:
    """A client's place in a run.

    Attributes:
        turn: the last question that it has answered; -1 before the first.
        secret: what its own random numbers in this run come from.
        passes: over its own data so far, as `local_steps` counts them.
        private: its state under the scheme, where no round is under way; None before its first.
        session: of the round that is under way, saved.
        known: public keys that it has been told, as `party/name`.
        answer: to the last question, for one that is asked again. Not stored where the scheme keeps no state, such as
            `none`'s: it would be a model more that Flower writes and reads in each round.
    """

    run: str
    secret: int
    turn: int = -1
    passes: int = 0
    private: State | None = None
    session: bytes | None = None
    known: State = field(default_factory=dict)
    answer: RecordDict = field(default_factory=RecordDict)

    @classmethod
    def of(cls, state: RecordDict, run: str, secret: int) -> "Kept":
        """What is kept of a run; what another has left counts for nothing. A first message brings a new secret."""
        facts = state.config_records.get(KEY, {})
        if facts.get("run") != run:
            return cls(run, secret)
        held = {name: array.data for name, array in state.array_records.get(HELD, {}).items()}
        answer = {name.removeprefix(ANSWER): each for name, each in state.items() if name.startswith(ANSWER)}
        private = unpack(held["private"]) if "private" in held else None
        secret, turn, passes = (int(str(facts[name])) for name in NUMBERS)
        session, known = held.get("session"), unpack(held.get("known"))
        return cls(run, secret, turn, passes, private, session, known, RecordDict(answer))

    def store(self, state: RecordDict) -> None:
        """Put it where the next message finds it."""
        for name in [name for name in state if name.startswith(ANSWER)]:
            del state[name]
        state[KEY] = ConfigRecord({"run": self.run, **{name: getattr(self, name) for name in NUMBERS}})
        held = {} if self.session is None else {"session": self.session}
        held |= {} if self.private is None else {"private": pack(self.private)}
        held |= {"known": pack(self.known)} if self.known else {}
        state[HELD] = arrays(held)
        if self.private != {}:
            state.update({f"{ANSWER}{name}": each for name, each in self.answer.items()})

    def before_round(self) -> State | None:
        """The state to go into a new round with; None where there is none."""
        if self.session is None:
            return self.private
        session = ClientRound.load(self.session)
        log.warning("round %d ended without its last reply; this client goes on as before it", session.round.index)
        return session.session.settled or session.brought.private

    def tell(self, keys: State) -> None:
        """Take in what the server says are others' public keys.

        Raises:
            WireError: those of a party are others than before.
        """
        for name, key in keys.items():
            if name in self.known and not self.known[name].equal(key):
                raise WireError(
                    f"the server tells another key of {name.partition('/')[0]} than before; nothing is sent"
                )
        self.known = {**self.known, **keys}
