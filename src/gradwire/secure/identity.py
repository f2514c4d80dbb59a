"""Identities: each client's signing key, and the others' verification keys, which it learnt out of band.

A `Gathering` is what everything in a round is bound to. Keys, seals and signatures are bound to its parties and its
number; masks, where `digest` is set, to all that the server has said as well. Clients who were told different things
have masks that do not cancel, so that a lie gives noise (D. Pasquini, D. Francati, G. Ateniese, "Eluding secure
aggregation in federated learning via model inconsistency", CCS 2022, section 6: masks that depend on the model).

The state of a client is a flat mapping of names to tensors: `me` (its name), `identity` (its signing key) and
`known/<party>` (the verification key of each party).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.secure import keys
from gradwire.secure.byte_tensors import to_bytes, to_tensor
from gradwire.secure.kdf import framed, random_bytes

State = Mapping[str, Tensor]


def fresh() -> dict[str, Tensor]:
    """The state of a client before the key exchange."""
    return {"identity": to_tensor(random_bytes(32))}


def published(state: State) -> dict[str, Tensor]:
    """The verification key of a client, which the others must learn from a source that they trust."""
    return {"verification": to_tensor(keys.verification_key(to_bytes(state["identity"])))}


def with_known_keys(state: State, party: str, identities: Mapping[str, State]) -> dict[str, Tensor]:
    """The state of the client `party` after the key exchange: with its name and the others' verification keys."""
    known = {f"known/{other}": public["verification"] for other, public in identities.items()}
    return {**state, "me": to_tensor(party.encode()), **known}


def name(state: State) -> str:
    """The party whose state this is; GradwireError if it has not exchanged keys."""
    if "me" not in state:
        raise GradwireError("a client of a secure sum has exchanged no keys with the others (schemes.exchange_keys)")
    return to_bytes(state["me"]).decode()


@dataclass(frozen=True)
class Gathering:
    """The clients and the round of a secure sum, to which every signature and every derived key is bound.

    Attributes:
        parties: the clients of the round, in the order that decides the signs of masks.
        round: its number.
        seed: the run's public seed.
        curve: of the key agreement.
        prefix: of the names of phases, where one round holds two sums of different secrets.
        digest: of everything that the server has said so far; None where masks are not bound to it.
    """

    parties: tuple[str, ...]
    round: int
    seed: int
    curve: keys.Curve = "x25519"
    prefix: str = ""
    digest: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.parties) < 2:
            raise GradwireError(f"a secure sum needs at least 2 clients; round {self.round} has {len(self.parties)}")

    def phase(self, name: str) -> str:
        """The name of a phase on the wire."""
        return f"{self.prefix}{name}"

    def party(self, who: str | int) -> str:
        """The name of a party that is given by its name or its place."""
        return who if isinstance(who, str) else self.parties[who]

    def where(self, phase: str, who: str | int) -> str:
        """The beginning of an error: round, phase and party (or its place)."""
        return f"round {self.round}, phase {self.phase(phase)!r}, {self.party(who)}"

    def seat(self, state: State) -> int:
        """The place among the parties of the client with this state; GradwireError if it is not in the round."""
        me = name(state)
        if me not in self.parties:
            raise GradwireError(f"{me} is not among the {len(self.parties)} clients of round {self.round}")
        return self.parties.index(me)

    def context(self, *who: str | int) -> tuple[bytes, ...]:
        """What keys, seals and signatures of these parties (or places) in this round are bound to."""
        words = (str(self.seed), str(self.round), self.prefix, self.curve, *map(self.party, who))
        return tuple(word.encode() for word in words)

    def bound(self, *who: str | int) -> tuple[bytes, ...]:
        """What masks of these parties (or places) are bound to: the `context`, and what the server has said."""
        return (*self.context(*who), *(() if self.digest is None else (self.digest,)))

    def heard(self, phase: str, tensors: State) -> Self:
        """The same gathering after the server has said this to all."""
        if self.digest is None:
            return self
        return replace(self, digest=digest(self.digest, self.phase(phase).encode(), fingerprint(tensors)))


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the parts, each behind its length."""
    return hashlib.sha256(framed(b"gradwire said", *parts)).digest()


def fingerprint(tensors: State) -> bytes:
    """SHA-256 of named tensors: of their names in order, dtypes, shapes and bytes."""
    hashed = hashlib.sha256(b"gradwire tensors")
    for title in sorted(tensors):
        tensor = tensors[title].detach().cpu().contiguous()
        hashed.update(framed(title.encode(), str(tensor.dtype).encode(), repr(tuple(tensor.shape)).encode()))
        if tensor.numel():
            hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.digest()


def certify(gathering: Gathering, state: State, content: bytes) -> bytes:
    """A client's signature of what it publishes in this round."""
    return keys.sign(to_bytes(state["identity"]), _certificate(gathering, name(state), content))


def certified(gathering: Gathering, state: State, party: str, content: bytes, signature: bytes) -> bool:
    """Whether `party` itself published this, in this round; GradwireError if this client does not know its key."""
    return keys.verify(known_key(state, party), signature, _certificate(gathering, party, content))


def known_key(state: State, party: str) -> bytes:
    """The verification key of a party; GradwireError if this client does not know it."""
    if f"known/{party}" not in state:
        raise GradwireError(f"{name(state)} knows no verification key of {party}; exchange keys first")
    return to_bytes(state[f"known/{party}"])


def _certificate(gathering: Gathering, party: str, content: bytes) -> bytes:
    return framed(b"gradwire certificate", *gathering.context(party), content)
