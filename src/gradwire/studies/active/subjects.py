"""What a conformance report examines: a masked scheme's own halves, and Flower's SecAgg+."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.rounds.run import RoundResult
from gradwire.schemes import Contribution, Layout, Round, State, initial_states
from gradwire.schemes.sga import SGA
from gradwire.secure.conformance import Integers, Released, Subject
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.masks import expand
from gradwire.secure.ring import Ring
from gradwire.wire import ClientHalf, InProcess, Send, client, drop_out

if TYPE_CHECKING:
    from gradwire.integrations.flower.secaggplus import Arrays, SecAggPlus


@dataclass(frozen=True)
class MaskedScheme(Subject):
    """A masked scheme, as it is deployed: whole rounds by its own halves."""

    scheme: SGA
    clients: int
    generator: str = "aes-gcm"
    seed_bytes: int = KEY_BYTES

    @property
    def ring(self) -> Ring:
        """Z_R of a round."""
        return Ring.fitting(self.scheme.bits, self.clients)

    @property
    def modulus(self) -> int:
        """R."""
        return self.ring.modulus

    @cached_property
    def phases(self) -> Sequence[str]:
        """All of a round."""
        carrier = InProcess()
        self._round([np.zeros(8)] * self.clients, carrier=carrier)
        sent = (message.phase for message in carrier.transcript.messages() if message.sender == client(1))
        return tuple(dict.fromkeys(sent))

    def expand(self, seed: bytes, count: int) -> Integers:
        """A mask."""
        return expand(seed, count, self.ring.dtype)

    def encode(self, values: NDArray[np.floating], clients: int) -> Integers:
        """Codes."""
        return Ring.fitting(self.scheme.bits, clients).encode(torch.from_numpy(values), 1.0)

    def message(self, values: NDArray[np.floating], examples: int) -> Mapping[str, bytes]:
        """All that the first client sends until its codes are there; keys and shares are random, whatever it holds."""
        carrier = InProcess()
        others = [np.zeros(len(values))] * (self.clients - 1)
        self._round([values, *others], carrier=carrier, weight=examples / 10)
        sent = (message for message in carrier.transcript.messages() if message.sender == client(0))
        told = {m.phase: m.tensors for m in sent if m.phase not in ("keys", "choose", "shares", "survivors", "unmask")}
        return {name: tensor.numpy().tobytes() for tensors in told.values() for name, tensor in tensors.items()}

    def reveal(self, stayed: set[int], dropped: set[int]) -> Mapping[str, set[int]]:
        """Of whom the first client reveals a share of its "seeds" or "keys"."""
        parties, layout = self._parties, Layout({"w": (8,)})
        states, around = initial_states(self.scheme, layout, parties, 0), Round(0, parties, 0, layout)
        told: dict[str, Any] = {"places": torch.tensor(sorted(stayed), dtype=torch.int32)}
        revealed: list[Send] = []

        def misled(half: ClientHalf[Any]) -> ClientHalf[Any]:
            reply = None
            while True:
                try:
                    send = half.send(reply) if reply is not None else next(half)
                except StopIteration as stop:
                    return stop.value
                if send.phase == "unmask":
                    revealed.append(send)
                reply = yield send
                reply = told if send.phase == "masked" else reply

        def exposed(party: str, half: ClientHalf[Any]) -> ClientHalf[Any]:
            return misled(half) if party == parties[0] else half

        brought = {p: Contribution({"w": torch.zeros(8)}, state) for p, state in states.items()}
        run_round(self.scheme, brought, {}, around, InProcess(), exposed)
        if not revealed:
            raise GradwireError("it reveals nothing")
        places = set(revealed[0].tensors["places"].tolist())
        return {"seeds": places & stayed, "keys": places - stayed}

    def release(self, values: Sequence[NDArray[np.floating]], examples: int, vanish: str | None = None) -> Released:
        """The mean, and what the scheme notes of this round beside what it notes of all."""
        result, before = self._round(values, vanish)
        known = self.scheme.notes(before)
        said = [note for note in self.scheme.notes(result.private) if note not in known]
        return Released(result.aggregate["w"].double().numpy(), said)

    @property
    def _parties(self) -> tuple[str, ...]:
        return tuple(map(client, range(self.clients)))

    def _round(
        self,
        values: Sequence[NDArray[np.floating]],
        vanish: str | None = None,
        carrier: InProcess | None = None,
        weight: float = 1.0,
    ) -> tuple[RoundResult, Mapping[str, State]]:
        """A round in which each client scales its own update by its weight, the first one's; the others' are 1."""
        layout = Layout({"w": values[0].shape})
        states = initial_states(self.scheme, layout, self._parties, 0)
        around = Round(0, self._parties, 0, layout, weights="scaled")
        brought = {
            party: Contribution({"w": torch.from_numpy(own).float()}, states[party], weight=1.0 if i else weight)
            for i, (party, own) in enumerate(zip(self._parties, values, strict=True))
        }

        def exposed(party: str, half: ClientHalf[Any]) -> ClientHalf[Any]:
            return drop_out(half, vanish) if vanish and party == client(1) else half

        return run_round(self.scheme, brought, {}, around, carrier or InProcess(), exposed), states


@dataclass(frozen=True)
class FlowerSum(Subject):
    """Flower's SecAgg+, as its own client half and its own workflow make it."""

    terms: "SecAggPlus"
    clients: int
    generator: str = "mt19937"
    seed_bytes: int = 32

    @property
    def modulus(self) -> int:
        """Of the masks."""
        return self.terms.modulus_range

    @property
    def phases(self) -> Sequence[str]:
        """Flower's stages."""
        from gradwire.integrations.flower.secaggplus import STAGES

        return STAGES

    def expand(self, seed: bytes, count: int) -> Integers:
        """A mask by Flower's generator."""
        from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

        return pseudo_rand_gen(seed, self.modulus, [(count,)])[0]

    def encode(self, values: NDArray[np.floating], clients: int) -> Integers:
        """Flower's quantisation of values whose range is [−1, 1]."""
        from flwr.common.secure_aggregation.quantization import quantize

        return quantize([values], 1.0, self.terms.quantization_range)[0]

    def message(self, values: NDArray[np.floating], examples: int) -> Mapping[str, bytes]:
        """What a client sends in the third stage: its masked vector, and what else the reply holds."""
        _, sent = self._first(values, examples)
        masked = b"".join(_raw(data) for data in sent.pop("masked_params")[1:])
        return {"masked": masked} | {name: repr(value).encode() for name, value in sent.items()}

    def reveal(self, stayed: set[int], dropped: set[int]) -> Mapping[str, set[int]]:
        """Of whom the first client reveals shares; it numbers clients from 1."""
        nodes, _ = self._first(np.zeros(4), 10)
        lists = {"active_nids": [i + 1 for i in sorted(stayed)], "dead_nids": [i + 1 for i in sorted(dropped)]}
        nodes.ask(1, self.phases[-1], lists)
        return {"seeds": stayed, "keys": dropped}

    def release(self, values: Sequence[NDArray[np.floating]], examples: int, vanish: str | None = None) -> Released:
        """The mean, and Flower's warnings."""
        from gradwire.integrations.flower.secaggplus import Nodes, honest_round

        nodes = Nodes(self.clients, lambda node, arrays: ([values[node - 1]], examples))
        summed = honest_round(self.terms, nodes, [np.zeros(values[0].shape)], (vanish, 2) if vanish else None)
        return Released(summed.mean[0], summed.logged)

    def _first(self, values: NDArray[np.floating], examples: int) -> tuple[Any, dict[str, Any]]:
        """The nodes after all have masked, and what the first has sent then."""
        from gradwire.integrations.flower.secaggplus import Nodes

        def train(node: int, arrays: "Arrays") -> tuple["Arrays", int]:
            return [values if node == 1 else np.zeros(len(values))], examples

        nodes = Nodes(self.clients, train)
        return nodes, nodes.masked(self.terms, [np.zeros(len(values))])[1]


def _raw(data: bytes) -> bytes:
    """The bytes of an array's numbers, without the header that says what they are."""
    from flwr.common import bytes_to_ndarray

    return bytes_to_ndarray(data).tobytes()
