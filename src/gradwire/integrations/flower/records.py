"""How gradwire's messages travel in Flower's: facts in a ConfigRecord, messages' bytes as arrays, which Flower cuts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.app import Message as FlowerMessage
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Layout, Scheme, State, parse
from gradwire.wire import BUFFERS, WEIGHTS, Message, Need, Tensors, check_carrier
from gradwire.wire.body import DTYPES, NAMES

KEY = "gradwire"
"""The name of the record of facts, in Flower's messages and in a client's state."""
PAYLOAD = "gradwire.messages"
"""The name of the record of arrays: each is the serialised form of one of gradwire's messages."""
TURN = "run", "turn"
"""The fields that say which question a record asks or answers: a name that the grid has drawn, a number that rises."""


@dataclass(frozen=True)
class Begin:
    """What the server tells a client as a round begins: the fields of a record, all of them public.

    Attributes:
        met: rounds that the client has answered in before.
        epoch: passes over the data so far, for schemes that warm up.
        lr: by which the server follows a mean gradient; 0 where clients send what local training has changed.
        parameters: names of the arrays that go through the scheme; `buffers`, of those that are averaged beside it.
        weighted_by: the metric that weighs clients; "" where they count alike.
        examples: the mean of that metric, by which each divides its own; 0 where the server does not know it yet.
    """

    scheme: str
    party: str
    clients: list[str]
    round: int
    seed: int
    met: int
    epoch: int
    lr: float
    parameters: list[str]
    buffers: list[str]
    weighted_by: str
    examples: float


def chosen(scheme: str | Scheme, weighted_by: str | None) -> Scheme:
    """The scheme, if Flower carries it.

    Raises:
        GradwireError: it needs clients to count alike, and they do not.
    """
    found = parse(scheme)
    offers = set(Need) - ({Need.EQUAL_WEIGHTS} if weighted_by else set())
    check_carrier(found.spec, found.needs, f"Flower (weighted_by={weighted_by!r})", offers)
    return found


def last_word(scheme: Scheme, phase: str) -> bool:
    """Whether a client whose state is settled has nothing to say after a phase: it may have to help unmask a sum."""
    unmasks = scheme.sums_only and getattr(scheme, "threshold", None) is not None
    return not unmasks or phase in (WEIGHTS, BUFFERS) or phase.endswith("unmask")


def packed(facts: Mapping[str, Any], payload: Mapping[str, bytes]) -> dict[str, ConfigRecord | ArrayRecord]:
    """gradwire's part of a Flower message."""
    return {KEY: ConfigRecord(dict(facts)), **({PAYLOAD: arrays(payload)} if payload else {})}


def arrays(payload: Mapping[str, bytes]) -> ArrayRecord:
    """Bytes as Flower's arrays, without another copy."""
    return ArrayRecord({name: Array("uint8", (len(data),), KEY, data) for name, data in payload.items()})


def facts_of(reply: FlowerMessage) -> Mapping[str, Any]:
    """gradwire's facts in a message; none where it has failed or is not gradwire's."""
    return {} if reply.has_error() else reply.content.config_records.get(KEY, {})


def payload_of(content: RecordDict, name: str) -> bytes | None:
    """One message's bytes; None where there is none."""
    array = content.array_records.get(PAYLOAD, {}).get(name)
    return None if array is None else array.data


def read(content: RecordDict, name: str) -> Message:
    """One of gradwire's messages.

    Raises:
        WireError: there is none, or it cannot be read.
    """
    data = payload_of(content, name)
    if data is None:
        raise WireError(f"a message lacks gradwire's part {name!r}")
    return Message.decode(data)


def pack(state: Tensors) -> bytes:
    """A state as bytes."""
    return Message("", "", 0, "state", state).frozen()


def unpack(data: bytes | None) -> State:
    """The state that `pack` wrote; an empty one for None."""
    return {} if data is None else Message.decode(data).tensors


def layout_text(layout: Layout) -> str:
    """A layout as text, for clients that do not have the arrays yet."""
    return json.dumps([layout.shapes, {name: NAMES[dtype] for name, dtype in layout.dtypes.items()}])


def layout_of(text: object) -> Layout:
    """The layout that `layout_text` wrote.

    Raises:
        WireError: something else.
    """
    try:
        shapes, dtypes = json.loads(str(text))
        return Layout({n: tuple(map(int, s)) for n, s in shapes.items()}, {n: DTYPES[d] for n, d in dtypes.items()})
    except (AttributeError, KeyError, TypeError, ValueError):
        raise WireError("the layout that the server tells cannot be read") from None


def arrays_of(content: RecordDict) -> tuple[str, ArrayRecord]:
    """The one ArrayRecord of a message beside gradwire's own, and its name.

    Raises:
        GradwireError: there is none, or more than one.
    """
    found = [(name, record) for name, record in content.array_records.items() if name != PAYLOAD]
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
