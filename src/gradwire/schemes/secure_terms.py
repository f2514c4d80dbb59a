"""What all secure sums share before a message is sent: hyper-parameters, protocol, ring, noise, what a report says."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch

from gradwire.errors import GradwireError, check_counts, not_negative
from gradwire.schemes.accounting import Guarantee
from gradwire.schemes.distributed_dp import DistributedNoise, epsilon
from gradwire.schemes.layout import Layout
from gradwire.schemes.round import Round, State
from gradwire.schemes.scheme import Accounting, KeyExchange, Scheme
from gradwire.secure import identity
from gradwire.secure.byte_tensors import to_tensor
from gradwire.secure.discrete_noise import Kind
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.identity import Gathering
from gradwire.secure.keys import Curve
from gradwire.secure.pairwise import Pairwise
from gradwire.secure.protocol import SecureSum
from gradwire.secure.ring import BITS, Ring
from gradwire.seeds import generator
from gradwire.wire import Need
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class SecureTerms(Scheme, KeyExchange, Accounting):
    """The terms of a secure sum.

    Attributes:
        bits: of an integer on the wire: 32, 16 or 8; more, where among so many clients they leave too few levels.
        max: R_max, the largest magnitude that can be sent: "adaptive" (agreed on each round, see `magnitudes`),
            "largest" (the paper's: the largest of all, as the server says), or a number. What is larger is clipped.
        rounding: to the "nearest" integer, or "stochastic"; "auto" is stochastic unless steps are as fine as float32's.
        threshold: so many clients must stay to the end, and the others may drop out; by default none may.
        colluders: c clients may side with the server, 2·threshold > clients + c. [default: a third of them]
        neighbours: with a threshold, share masks with "all" clients or with a "few", as many as are needed if the
            colluders side with the server and 10 % drop out (secure.graph).
        curve: of the key agreement.
        binding: masks depend on all that the server says, and clients believe nothing that they cannot check;
            without it, the papers' protocol, for servers that keep to it.
        dp: multiplier of the noise that all clients add together (`distributed_dp`): the sum's standard deviation is
            dp·clip. `max` and `rounding` do not apply then.
        clip: with dp, the largest norm of what a client sends.
        noise: with dp, its distribution.
        delta: with dp, δ of the (ε, δ) that is reported.
    """

    sums_only = True

    bits: int = 32
    max: Literal["adaptive", "largest"] | float = "adaptive"
    rounding: Literal["auto", "nearest", "stochastic"] = "auto"
    threshold: int | None = None
    colluders: int | None = None
    neighbours: Literal["all", "few"] = "all"
    curve: Curve = "x25519"
    binding: bool = True
    dp: float | None = None
    clip: float = 1.0
    noise: Kind = "gaussian"
    delta: float = 1e-5

    def __post_init__(self) -> None:
        for name, most in (("dp", inf), ("clip", inf), ("delta", 1.0)):
            if (value := getattr(self, name)) is not None and not 0 < value < most:
                raise GradwireError(f"{self.name}: {name} is {value}; it must be positive and less than {most}")
        if self.bits not in BITS:
            raise GradwireError(f"{self.name}: bits is {self.bits}; it must be one of {', '.join(map(str, BITS))}")
        if not isinstance(self.max, str) and not 0 < self.max < inf:
            raise GradwireError(f"{self.name}: max is {self.max}; it must be adaptive, largest or a positive number")
        check_counts(self.name, self, "threshold", least=2)
        not_negative(self.name, self, "colluders")

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A signing key."""
        return identity.fresh()

    @property
    def needs(self) -> frozenset[Need]:
        """A server; with a threshold, one that replies to each client on its own."""
        return frozenset({Need.SERVER} if self.threshold is None else {Need.SERVER, Need.REPLY_EACH})

    def public_keys(self, private: State) -> State:
        """The verification key."""
        return identity.published(private)

    def with_keys(self, private: State, party: str, keys: Mapping[str, State]) -> State:
        """Everybody's verification key."""
        return identity.with_known_keys(private, party, keys)

    def with_identity(self, private: State, identity: bytes) -> State:
        """The signing key."""
        return {**private, "identity": to_tensor(identity)}

    @property
    def asks_maximum(self) -> bool:
        """Whether clients tell their largest magnitudes."""
        return isinstance(self.max, str) and self.dp is None

    def noises(self, round: Round, size: int) -> DistributedNoise | None:
        """The noise of a sum of vectors of this size; None without."""
        if self.dp is None:
            return None
        return DistributedNoise(self.noise, self.dp, self.clip, self.bits, len(round.clients), size)

    def width(self, size: int, round: Round) -> int:
        """How many codes a vector of this size is sent as."""
        noise = self.noises(round, size)
        return noise.width if noise else size

    @property
    def protects(self) -> bool:
        """With dp."""
        return self.dp is not None

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """With dp: of the client that has spent most, against the server and its colluders.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        found = epsilon(private, self.delta) if self.dp is not None else None
        if found is None:
            return ()
        sums = max(int(state["dp/sums"][0]) for state in private.values() if "dp/sums" in state)
        how = f"{sums} sums, if {self.liars(len(private))} clients tell the server their noise"
        return (Guarantee(found, self.delta, "zero-out", how, "RDP", "client"),)

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """With dp: the standard deviation of the noise in every entry of the mean."""
        return 0.0 if self.dp is None else self.dp * self.clip / len(round.clients)

    def liars(self, clients: int) -> int:
        """c, of so many clients."""
        return clients // 3 if self.colluders is None else self.colluders

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """What so many clients at so many bits really have, what is told in the clear, whose values were clipped."""
        if self.dp is not None:
            return self._notes_of_noise(private)
        ring, told = Ring.fitting(self.bits, max(2, len(private))), []
        more = "" if ring.bits == self.bits else f" (bits={self.bits} would leave too few levels)"
        levels = f"{len(private)} clients have {ring.ceiling + 1:,} levels each of {ring.bits} bits{more}"
        error = 1 / (ring.ceiling * max(1, len(private)) ** 0.5)
        told.append(f"{self.spec}: {levels}; the mean of their values is off by {error:.1g} R_max at most, rms")
        if self.asks_maximum:
            told.append(f"{self.spec}: each client's largest magnitude is told in the clear")
        for party, state in private.items():
            clipped, of = state["clipped"].tolist() if "clipped" in state else (0, 0)
            if clipped:
                told.append(f"{self.spec}: {party} had {clipped:,} of {of:,} values clipped ({clipped / of:.2%})")
        return tuple(told)

    def _notes_of_noise(self, private: Mapping[str, State]) -> tuple[str, ...]:
        sums = [state["dp/sums"].tolist() for state in private.values() if "dp/sums" in state]
        if not sums:
            return ()
        try:
            (found,) = self.guarantees(private)
        except GradwireError as error:
            return (f"{self.spec}: {error}",)
        n, fewest, c = len(private), min(least for _, least in sums), self.liars(len(private))
        left = max(0, fewest - c) / n
        fewer = f"at the fewest {fewest} of {n} clients stayed: the noise was {left**0.5:.0%} of what dp says, at least"
        return (f"{self.spec}: {found}", f"{self.spec}: {fewer}")

    @property
    def protocol(self) -> SecureSum:
        """The secure sum."""
        if self.threshold is None:
            return Pairwise()
        colluders = self.colluders if self.binding else 0
        return DoubleMask(self.threshold, self.neighbours == "few", colluders=colluders)

    def gathering(self, round: Round, prefix: str = "") -> Gathering:
        """The clients and the round of a sum; `prefix` tells several sums of a round apart."""
        said = identity.digest(self.spec.encode(), round.digest) if self.binding else None
        return Gathering(round.clients, round.index, round.seed, self.curve, prefix, said)

    def ring(self, round: Round) -> Ring:
        """Z_R, divided among the round's clients; with dp, all of it for their sum."""
        if self.dp is not None:
            return Ring(self.bits, 1)
        return Ring.fitting(self.bits, len(round.clients))

    def randomness(self, round: Round, seat: int) -> torch.Generator | None:
        """The random numbers of stochastic rounding. They are public: rounding is no protection."""
        nearest = self.rounding == "nearest" or (self.rounding == "auto" and self.ring(round).fine)
        return None if nearest else generator("rounding", round.seed, round.index, seat)
