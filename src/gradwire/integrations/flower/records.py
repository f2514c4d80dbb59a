"""How gradwire's messages travel in Flower's: as bytes in a ConfigRecord of their own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Scheme, State, parse
from gradwire.wire import Message, Need

KEY = "gradwire"
"""The record's name, in Flower's messages and in a client's state."""
BUFFERS = "buffers"
"""The phase of what goes beside the scheme: arrays that are no parameters, such as batch norm's statistics."""


@dataclass(frozen=True)
class Begin:
    """What the server tells a client as a round begins: all of it public.

    Attributes:
        scheme: the spec, so that a client can refuse another. `party`: the client's name in this run.
    """

    scheme: str
    party: str
    clients: tuple[str, ...]
    round: int
    seed: int

    def text(self) -> str:
        """As JSON."""
        return json.dumps(vars(self))

    @classmethod
    def read(cls, text: str) -> "Begin":
        """What `text` gave.

        Raises:
            WireError: something else.
        """
        try:
            told = json.loads(text)
            return cls(told["scheme"], told["party"], tuple(told["clients"]), int(told["round"]), int(told["seed"]))
        except (ValueError, KeyError, TypeError) as error:
            raise WireError(f"the beginning of a round cannot be read: {error}") from None


def chosen(scheme: str | Scheme) -> Scheme:
    """The scheme, if it runs over Flower.

    Raises:
        GradwireError: it needs a host that knows its clients.
    """
    found = parse(scheme) if isinstance(scheme, str) else scheme
    if Need.SERVER in found.needs:
        raise GradwireError(f"scheme {found.spec!r} does not run over Flower; it runs in one process and over torchrun")
    return found


def record_of(content: RecordDict) -> ConfigRecord | None:
    """gradwire's record in a message, if there is one."""
    return content.config_records.get(KEY)


def arrays_of(content: RecordDict) -> tuple[str, ArrayRecord]:
    """The one ArrayRecord of a message, and its name.

    Raises:
        GradwireError: there is none, or more than one.
    """
    found = list(content.array_records.items())
    if len(found) != 1:
        raise GradwireError(f"message holds {len(found)} ArrayRecords; a round of training must hold one")
    return found[0]


def tensors_of(arrays: ArrayRecord) -> dict[str, Tensor]:
    """Array name → tensor."""
    return dict(arrays.to_torch_state_dict())


def split(tensors: Mapping[str, Tensor], parameters: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The names of what goes through the scheme (all floating-point arrays by default), and of what goes beside it.

    Raises:
        GradwireError: a parameter that there is not.
    """
    for name in parameters or ():
        if name not in tensors:
            raise GradwireError(f"parameter {name!r} is not among the arrays {', '.join(tensors)}")
    chosen = {name for name, t in tensors.items() if t.is_floating_point()} if parameters is None else set(parameters)
    return [name for name in tensors if name in chosen], [name for name in tensors if name not in chosen]


def pack(state: State) -> bytes:
    """A state as bytes."""
    return bytes(Message("", "", 0, "state", state).encode())


def unpack(data: object) -> dict[str, Tensor]:
    """The state that `pack` made these bytes of."""
    return dict(read(data).tensors)


def read(data: object) -> Message:
    """A message from a field of a record.

    Raises:
        WireError: the field holds none.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a record of gradwire's holds {type(data).__name__} where a message should be")
    return Message.decode(data)
