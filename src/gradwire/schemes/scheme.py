"""The interface of a scheme: a frozen set of hyper-parameters, a client's and a server's half, an adversary's reading.

State is explicit. *Private* state belongs to one client (residuals). *Public* state is known to whoever listened from
the first round (warm starts). Both are flat mappings of names to tensors. No scheme opens a socket, reads a clock or
keeps anything between two calls.

A scheme that does more than send an update declares it: `needs` (of its carrier), `step_hook` (in each step of a
client's training), `network` (a network of its own), `key_exchange` (before the first round), `accounting` (what a
report says of a run).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradwire import seeds
from gradwire.errors import GradwireError, WireError
from gradwire.registry import SCHEMES
from gradwire.schemes.accounting import Guarantee
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStepHook
from gradwire.schemes.measurement import Measurement
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.secure.byte_tensors import to_bytes
from gradwire.secure.identity_files import Identities
from gradwire.wire import ClientHalf, Need, ServerHalf, Tensors
from gradwire.wire.view import LocalWork


class OwnNetwork(ABC):
    """A network that a scheme derives from the given one, and that everybody trains in its place."""

    @abstractmethod
    def adapt(self, model: nn.Module, seed: int) -> nn.Module:
        """A changed copy, whose new parameters `seed` decides. One that is changed already comes back as it is."""

    @abstractmethod
    def known(self, model: nn.Module, observation: Observation, batch: int) -> nn.Module:
        """The network that an adaptive adversary searches with: an update may give away its random numbers."""


class KeyExchange(ABC):
    """What clients tell one another before the first round, over a channel that all trust."""

    @abstractmethod
    def public_keys(self, private: State) -> State:
        """The part of a client's private state that the others must know."""

    @abstractmethod
    def with_keys(self, private: State, party: str, keys: Mapping[str, State]) -> State:
        """A client's private state once it knows its own name and everybody's public keys (party → keys)."""

    @abstractmethod
    def with_identity(self, private: State, identity: bytes) -> State:
        """A client's private state with a signing key of its owner's, in the place of a fresh one."""


class Accounting(ABC):
    """What a report says of a run, from the clients' states after it (party → state)."""

    @abstractmethod
    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """Sentences of the report."""

    def guarantees(self, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
        """What is differentially private, one guarantee for each kind of neighbours; () where nothing is."""
        return ()


@dataclass(frozen=True)
class Scheme(ABC):
    """What is done to updates between the parties. Subclasses are frozen dataclasses of hyper-parameters."""

    name: ClassVar[str]
    least_rounds: ClassVar[int] = 0
    """The rounds after which the scheme begins to do what it is for: a run must have more."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the scheme needs of its carrier."""
        return frozenset()

    @property
    def step_hook(self) -> LocalStepHook | None:
        """The local-step hook: what clients do to each step of their training. By default the scheme, if it is one."""
        return self if isinstance(self, LocalStepHook) else None

    @property
    def network(self) -> OwnNetwork | None:
        """The scheme's own network; None where it trains the given one. By default the scheme, if it is one."""
        return self if isinstance(self, OwnNetwork) else None

    @property
    def key_exchange(self) -> KeyExchange | None:
        """What clients tell one another before the first round. By default the scheme, if it is one."""
        return self if isinstance(self, KeyExchange) else None

    @property
    def accounting(self) -> Accounting | None:
        """What a report says of a run. By default the scheme, if it is one."""
        return self if isinstance(self, Accounting) else None

    @property
    def feeds_back(self) -> bool:
        """Whether clients add what they have not sent of earlier updates to the next one, and nothing else."""
        return False

    def payload(self, dtype: torch.dtype) -> torch.dtype | None:
        """What updates of this dtype are sent in, where all of each is sent, nothing is kept, and the mean comes back.

        None, which is the default, where more is done to them than that.
        """
        return None

    @property
    def local_momentum(self) -> float:
        """The momentum that clients apply. The optimiser must add none where it is not 0."""
        return 0.0

    @property
    def protects(self) -> bool:
        """Whether it promises privacy: a client then sends no buffers that its examples have changed."""
        return False

    @property
    def sums_only(self) -> bool:
        """Whether the server sees nothing but the sum of all clients' updates."""
        return False

    @property
    def spec(self) -> str:
        """The spec that `schemes.parse` reads back: the name and what differs from the defaults."""
        return SCHEMES.spec(self)

    def public_state(self, layout: Layout) -> State:
        """The public state before the first round."""
        return {}

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """A client's private state before its first round; `secret` seeds its own random numbers."""
        return {}

    @abstractmethod
    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """The client's half of a round: it sends `update`, and reads the replies."""

    @abstractmethod
    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """The server's half of a round."""

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:  # noqa: B027 (a half may check by itself)
        """Refuse what no honest client sends in a phase; the server's session drops its sender. See `exactly`.

        Raises:
            WireError: naming what is wrong.
        """

    @abstractmethod
    def decode(self, observation: Observation) -> Update:
        """The victim's update as the server decodes it: a naive adversary looks at nothing else."""

    @abstractmethod
    def measure(self, observation: Observation) -> Measurement:
        """The map from an update to what was sent, and what was sent: an adaptive adversary fits it."""

    def taken(self, observation: Observation) -> Update:
        """What error feedback takes off the victim's sum of update and residual; the rest is the next residual.

        By default what the server decodes of its upload.
        """
        return self.decode(observation)

    def kept_back(self, private: State, layout: Layout) -> Update:
        """What a client's private state holds back of earlier updates; {} where nothing is."""
        return {}

    def imitate(
        self,
        own: Mapping[str, Tensor],
        means: Mapping[str, Tensor],
        public: State,
        round: Round,
        random: torch.Generator,
    ) -> Measurement | None:
        """What the server would measure of many victims' gradients, each sent in a first round like this one.

        It is `measure` of all of them at once, without a message: see `schemes.imitation`. None, which is the default,
        where only a round tells. A subclass inherits no rule.

        Args:
            own: of V victims, parameter name → (V, *parameter).
            means: of all clients of each victim's round, in the same form.
            random: the victims' own random numbers.

        Returns:
            terms that hold V victims each.
        """
        return None

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean upload of the others, as the fellow client `party` works it out of the reply and its own.

        This default holds where the server replies with the mean of the uploads.
        """
        n = len(round.clients)
        return {name: (n * reply[name] - own[name]) / (n - 1) for name in own}

    def deviation(self, round: Round, batch: int = 1, work: LocalWork | None = None) -> float:
        """The standard deviation of the noise in every entry of what is sent; 0 where there is none.

        Args:
            batch: examples that the victim holds.
            work: its local steps; None for one gradient.
        """
        return 0.0


class ErrorFeedback(Scheme):
    """A scheme whose clients add what they have not sent to the next update, where `error_feedback` is set."""

    error_feedback: bool

    @property
    def feeds_back(self) -> bool:
        """With error feedback."""
        return self.error_feedback

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The residual e ← 0, as one flat vector."""
        return {"residual": torch.zeros(layout.size, dtype=layout.dtype)} if self.error_feedback else {}

    def kept_back(self, private: State, layout: Layout) -> Update:
        """The residual e."""
        return layout.unflatten(private["residual"]) if private else {}

    def corrected(self, update: Update, private: State, layout: Layout) -> Tensor:
        """g + e, flat."""
        return layout.plus(update, private["residual"]) if private else layout.flatten(update)


PublicKeys = Mapping[str, State]
"""Party → what it tells the others."""


def initial_states(
    scheme: Scheme,
    layout: Layout,
    parties: Sequence[str],
    seed: int,
    tell: Callable[[PublicKeys], PublicKeys] = lambda keys: keys,
    identities: Identities | None = None,
) -> dict[str, State]:
    """The parties' private states before the first round, each with a secret of its own, keys exchanged.

    Args:
        parties: those that live in this process.
        tell: public keys of these parties → those of all; see `exchange_keys`.
        identities: the key of the one party that lives in this process, and the list of who may join.

    Raises:
        GradwireError: a party that is not on the list, or shows another key.
    """
    states = {p: scheme.private_state(layout, seeds.number("private", seed, p)) for p in parties}
    if identities is None:
        return exchange_keys(scheme, states, tell)
    if scheme.key_exchange is None or len(states) != 1:
        what = f"{scheme.spec} exchanges no keys" if scheme.key_exchange is None else f"{len(states)} clients live here"
        raise GradwireError(f"an identity is one client's, in a process of its own; {what}")
    own = scheme.key_exchange
    return exchange_keys(
        scheme, {p: own.with_identity(s, identities.own) for p, s in states.items()}, _known(tell, identities)
    )


def _known(tell: Callable[[PublicKeys], PublicKeys], identities: Identities) -> Callable[[PublicKeys], PublicKeys]:
    """The same, refusing those who are not on the list of members."""

    def told(keys: PublicKeys) -> PublicKeys:
        found = tell(keys)
        for party, shown in found.items():
            identities.check(party, to_bytes(shown["verification"]))
        return found

    return told


def exchange_keys(
    scheme: Scheme, private: Mapping[str, State], tell: Callable[[PublicKeys], PublicKeys] = lambda keys: keys
) -> dict[str, State]:
    """The parties' states once they know one another's public keys, which do not cross the audited wire.

    Args:
        tell: public keys of the parties in this process → those of all; by default all of them live here.
    """
    exchange = scheme.key_exchange
    if exchange is None:
        tell({party: {} for party in private})
        return dict(private)
    keys = tell({party: exchange.public_keys(state) for party, state in private.items()})
    return {party: exchange.with_keys(state, party, keys) for party, state in private.items()}


def adapted(scheme: Scheme, model: nn.Module, seed: int) -> nn.Module:
    """The network that is trained under a scheme: the model itself, or the scheme's own."""
    return model if scheme.network is None else scheme.network.adapt(model, seed)


def guarantees(scheme: Scheme, private: Mapping[str, State]) -> tuple[Guarantee, ...]:
    """What a scheme guarantees after a run, from its clients' states: one guarantee for each kind of neighbours."""
    return () if scheme.accounting is None else scheme.accounting.guarantees(private)


def exactly(
    tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype | Mapping[str, torch.dtype]
) -> None:
    """Refuse a message that does not hold just these tensors, of these shapes and this dtype (or each of its own).

    Raises:
        WireError: naming the tensor.
    """
    for name in dict.fromkeys((*shapes, *tensors)):
        found = (tuple(tensors[name].shape), tensors[name].dtype) if name in tensors else None
        due = (shapes[name], dtype[name] if isinstance(dtype, Mapping) else dtype) if name in shapes else None
        if found != due:
            held, wanted = (("nothing" if x is None else f"shape {x[0]} of {x[1]}") for x in (found, due))
            raise WireError(f"{name!r} holds {held}; {wanted} was due")


def own_key(secret: int) -> State:
    """The key of a client's own random numbers, which it must tell nobody."""
    return {"key": torch.tensor([secret], dtype=torch.int64)}


def own_random(private: State, purpose: str, *numbers: int) -> torch.Generator:
    """A client's own random numbers for one purpose in one round or step, from its `own_key`."""
    return seeds.generator(purpose, int(private["key"]), *numbers)
