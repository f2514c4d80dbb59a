"""Who is who: each client's signing key, and the verification keys of the others, which it learnt out of band.

The state of a client is a flat mapping of names to tensors, as every state is: `me` (its name), `identity` (its
signing key) and `known/<party>` (everybody's verification key).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.secure import keys
from gradwire.secure.byte_tensors import to_bytes, to_tensor
from gradwire.secure.entropy import random_bytes

State = Mapping[str, Tensor]


def fresh() -> dict[str, Tensor]:
    """The state of a client that knows nobody yet."""
    return {"identity": to_tensor(random_bytes(32))}


def published(state: State) -> dict[str, Tensor]:
    """What the others must learn of a client, from a source that they trust."""
    return {"verification": to_tensor(keys.verification_key(to_bytes(state["identity"])))}


def with_known_keys(state: State, party: str, identities: Mapping[str, State]) -> dict[str, Tensor]:
    """The state of the client `party` once it knows who it is and what the others' verification keys are."""
    known = {f"known/{other}": public["verification"] for other, public in identities.items()}
    return {**state, "me": to_tensor(party.encode()), **known}


def name(state: State) -> str:
    """The party whose state this is.

    Raises:
        GradwireError: it has not been introduced.
    """
    if "me" not in state:
        raise GradwireError("a client of a secure sum has not been introduced to the others (schemes.introduce)")
    return to_bytes(state["me"]).decode()


@dataclass(frozen=True)
class Gathering:
    """Who adds up what together: the frame that every signature and every derived key is bound to.

    Attributes:
        parties: the clients of the round, in the order that decides the signs of masks.
        round: its number, and `seed`, the run's public seed.
        curve: for key agreement.
        prefix: of the names of phases, where one round holds two sums of different secrets.
    """

    parties: tuple[str, ...]
    round: int
    seed: int
    curve: keys.Curve = "x25519"
    prefix: str = ""

    def __post_init__(self) -> None:
        if len(self.parties) < 2:
            raise GradwireError(f"a secure sum needs at least 2 clients; round {self.round} has {len(self.parties)}")

    def phase(self, name: str) -> str:
        """The name of a phase."""
        return f"{self.prefix}{name}"

    def where(self, phase: str, party: str) -> str:
        """How errors say where something went wrong."""
        return f"round {self.round}, phase {self.phase(phase)!r}, {party}"

    def seat(self, state: State) -> int:
        """The place among the parties of the client with this state.

        Raises:
            GradwireError: it has not been introduced, or is not in the round.
        """
        me = name(state)
        if me not in self.parties:
            raise GradwireError(f"{me} is not among the {len(self.parties)} clients of round {self.round}")
        return self.parties.index(me)

    def context(self, *words: str) -> tuple[bytes, ...]:
        """What keys of this round are derived from beside a secret, and what seals and signatures hold fast."""
        numbers = (str(self.seed), str(self.round), self.prefix, self.curve)
        return tuple(word.encode() for word in (*numbers, *words))


def certify(gathering: Gathering, state: State, content: bytes) -> bytes:
    """A client's signature under what it publishes in this round."""
    return keys.sign(to_bytes(state["identity"]), _statement(gathering, to_bytes(state["me"]).decode(), content))


def certified(gathering: Gathering, state: State, party: str, content: bytes, signature: bytes) -> bool:
    """Whether `party` itself published this, in this round and for this purpose.

    Raises:
        GradwireError: the client with this state does not know the party.
    """
    if f"known/{party}" not in state:
        me = to_bytes(state["me"]).decode()
        raise GradwireError(f"{me} knows no verification key of {party}; they have to be introduced first")
    return keys.verify(to_bytes(state[f"known/{party}"]), signature, _statement(gathering, party, content))


def _statement(gathering: Gathering, party: str, content: bytes) -> bytes:
    parts = (b"gradwire certificate", *gathering.context(party), content)
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
