"""User-level differential privacy: every client clips its whole update, and the sum of all holds Gaussian noise.

H. B. McMahan, D. Ramage, K. Talwar, L. Zhang, "Learning differentially private recurrent language models", ICLR 2018,
algorithm 1, with flat clipping and a fixed denominator. There a trusted server draws the noise. Here each client draws
a share of it, so that the sum of a round has the noise whoever forms it (S. Goryczka, L. Xiong, V. Sunderam, "Secure
multiparty aggregation with differential privacy", EDBT workshops 2013). Shares are large enough that the sum has all of
its noise even to a client who takes its own share out.

What is private is the mean: to fellow clients, and to whoever gets the model. The server reads each client's update
with that client's share alone, unless a secure sum hides it (`dpfedavg+sga`). Noise is of floating-point numbers, whose
last bits an exact analysis does not cover (I. Mironov, CCS 2012). Every client of a round must stay to its end, for its
share is missing otherwise. That only some clients are in a round amplifies nothing, for who they are is public here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from gradwire.errors import GradwireError, TooFewError
from gradwire.schemes.accounting import Guarantee, check_private, gaussian
from gradwire.schemes.halves import mean
from gradwire.schemes.imitation import Stacked, flat, parts
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Dense, Measurement
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Outcome, Round, State
from gradwire.schemes.scheme import Accounting, own_key, own_random
from gradwire.wire import ClientHalf, Need, Send, ServerHalf
from gradwire.wire.view import LocalWork


@dataclass(frozen=True)
class DPFedAvg(PlainSGD, Accounting):
    """Send Δ·min(1, clip/‖Δ‖) + n with n ~ N(0, (noise·clip)²/(C − 1)·I) among C clients.

    Attributes:
        clip: the norm that no client's update, all parameters taken together, exceeds.
        noise: the noise multiplier: the standard deviation of the noise in the sum, over `clip`. 0 clips only.
        delta: δ of the (ε, δ) that is reported.
    """

    name: ClassVar[str] = "dpfedavg"
    needs = frozenset({Need.EQUAL_WEIGHTS, Need.WHOLE})
    protects = True

    clip: float = 1.0
    noise: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        check_private(self.name, self.clip, self.noise, self.delta)

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The key of the client's own noise, and in how many rounds it has taken part."""
        return {**own_key(secret), "rounds": torch.tensor(0)}

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Clip the update, add a share of the noise, and send it as plain SGD does."""
        vector = round.layout.flatten(update)
        kept = (self.clip / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)).clamp_max(1)
        noise = torch.randn(len(vector), generator=own_random(private, "dpfedavg", round.index)).to(vector)
        sent = round.layout.unflatten(kept * vector + self.deviation(round) * noise)
        return (yield from super().client(sent, {**private, "rounds": private["rounds"] + 1}, public, round))

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean, if all are there.

        Raises:
            TooFewError: a client is gone, and with it its share of the noise.
        """
        uploads = yield None
        gone = [party for party in round.clients if party not in uploads]
        # A collective, or a secure sum, hands over one mean of all.
        if 0 < len(gone) < len(round.clients):
            raise TooFewError(f"round {round.index}: {gone[0]} is gone, and with it its share of dpfedavg's noise")
        average = mean(uploads)
        yield Send("update", average)
        return Outcome(round.layout.unflatten(average["dense"]), public, {})

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """Every update clipped, with noise of its own."""
        vectors = flat(own, round.layout)
        kept = (self.clip / vectors.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
        noise = self.deviation(round) * torch.randn(vectors.shape, generator=random)
        return {n: [Dense(part)] for n, part in parts(kept * vectors + noise.to(vectors), round.layout).items()}

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of one client's share."""
        return float(self.noise * self.clip / max(1, len(round.clients) - 1) ** 0.5)

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """Of the client that took part most often; () without noise or any round.

        Raises:
            GradwireError: `dp-accounting` is not installed.
        """
        uses = max(int(state["rounds"]) for state in private.values())
        if not uses or not self.noise:
            return ()
        how = f"{uses} rounds with a client"
        return tuple(
            gaussian(adjacency, uses, self.noise, self.delta, how, "client") for adjacency in ("replace", "zero-out")
        )

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """The guarantees, and to whom they are given."""
        if not self.noise:
            return (f"{self.name}: without noise nothing is guaranteed: ε is infinite",)
        try:
            told = [f"{self.name}: {each}" for each in self.guarantees(private)]
        except GradwireError as error:
            return (f"{self.name}: {error}",)
        whom = "ε is of the mean, to fellow clients and to whoever gets the model; the server needs a secure sum (+sga)"
        return (*told, f"{self.name}: {whom}") if told else ()
