"""How gradwire's messages travel in Flower's: as bytes in a ConfigRecord of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Scheme, State, parse
from gradwire.wire import Message, Need, check_carrier

KEY = "gradwire"
"""The record's name, in Flower's messages and in a client's state."""
TURN = "run", "turn"
"""The fields that say which question a record asks or answers: a name that the grid has drawn, a number that rises."""
OFFERS = frozenset({Need.SERVER, Need.REPLY_EACH, Need.LOCAL_UPDATE})
"""What every scheme finds over Flower; where clients count alike, `Need.EQUAL_WEIGHTS` too."""


@dataclass(frozen=True)
class Begin:
    """What the server tells a client as a round begins: the fields of a record, all of them public.

    Attributes:
        parameters: names of the arrays that go through the scheme; `buffers`, of those that are averaged beside it.
        weighted_by: the metric that weighs clients; "" where they count alike.
        examples: the mean of that metric, by which each divides its own; 0 where the server does not know it yet.
        public: the scheme's public state, packed.
    """

    scheme: str
    party: str
    clients: list[str]
    round: int
    seed: int
    parameters: list[str]
    buffers: list[str]
    weighted_by: str
    examples: float
    public: bytes


def chosen(scheme: str | Scheme, weighted_by: str | None) -> Scheme:
    """The scheme, if Flower carries it.

    Raises:
        GradwireError: it needs something that Flower does not offer.
    """
    found = parse(scheme)
    if found.key_exchange is not None:
        raise GradwireError(f"scheme {found.spec!r} needs keys exchanged before the first round; over Flower none are")
    offers = OFFERS if weighted_by else OFFERS | {Need.EQUAL_WEIGHTS}
    check_carrier(found.spec, found.needs, f"Flower (weighted_by={weighted_by!r})", offers)
    return found


def arrays_of(content: RecordDict) -> tuple[str, ArrayRecord]:
    """The one ArrayRecord of a message, and its name.

    Raises:
        GradwireError: there is none, or more than one.
    """
    found = list(content.array_records.items())
    if len(found) != 1:
        raise GradwireError(f"message holds {len(found)} ArrayRecords; a round of training must hold one")
    return found[0]


def check_arrays(arrays: Mapping[str, Tensor], like: Mapping[str, Tensor], whose: str) -> None:
    """Refuse arrays of another set, or one of another shape or dtype.

    Raises:
        GradwireError: naming the array.
    """
    for name in dict.fromkeys((*like, *arrays)):
        kinds = [(tuple(a[name].shape), a[name].dtype) if name in a else None for a in (arrays, like)]
        if kinds[0] != kinds[1]:
            raise GradwireError(f"{whose} array {name!r} is {kinds[0]}; {kinds[1]} was due: layouts stay in a run")


def pick(arrays: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Some of the arrays, in the order of their names.

    Raises:
        GradwireError: one that there is not.
    """
    for name in names:
        if name not in arrays:
            raise GradwireError(f"parameter {name!r} is not among the arrays {', '.join(arrays)}")
    return {name: arrays[name] for name in names}


def examples_of(content: RecordDict, metric: str) -> float:
    """The number by which a client is weighted.

    Raises:
        GradwireError: there is none, or it is not positive.
    """
    value = next((each[metric] for each in content.metric_records.values() if metric in each), None)
    if not isinstance(value, int | float) or not 0 < value < inf:
        raise GradwireError(f"metric {metric!r} is {value}; clients are weighted by it: a positive number is due")
    return float(value)


def pack(state: State) -> bytes:
    """A state as bytes."""
    return bytes(Message("", "", 0, "state", state).encode())


def read(data: object) -> Message:
    """A message from a field of a record.

    Raises:
        WireError: the field holds none.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a record of gradwire's holds {type(data).__name__} where a message is due")
    return Message.decode(data)
