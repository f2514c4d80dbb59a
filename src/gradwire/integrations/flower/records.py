"""How gradwire's messages travel in Flower's: as bytes in a ConfigRecord of their own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Scheme, State, parse
from gradwire.wire import Message, Need, check_carrier

KEY = "gradwire"
"""The record's name, in Flower's messages and in a client's state."""
OFFERS = frozenset({Need.SERVER, Need.REPLY_EACH, Need.LOCAL_UPDATE})
"""What every scheme finds over Flower, and `Need.EQUAL_WEIGHTS` beside it where clients count alike."""


class Turn(NamedTuple):
    """Which of a run's questions and answers a record is: a name drawn by the grid, a round, a place in the round."""

    run: str
    round: int
    turn: int

    @classmethod
    def of(cls, record: Mapping[str, object]) -> "Turn":
        """The turn that a record names.

        Raises:
            WireError: it names none.
        """
        run, round, turn = (record.get(name) for name in cls._fields)
        if not (isinstance(run, str) and isinstance(round, int) and isinstance(turn, int)):
            raise WireError(
                f"a record of gradwire's names turn {run!r}, {round!r}, {turn!r}; a name, two numbers are due"
            )
        return cls(run, round, turn)


@dataclass(frozen=True)
class Begin:
    """What the server tells a client as a round begins: all of it public.

    Attributes:
        scheme: the spec, so that a client can refuse another. `party`: the client's name in this run.
        parameters: names of the arrays that go through the scheme; `buffers`, of those that are averaged beside it.
        weighted_by: the metric that weighs clients; None: they count alike.
        examples: what an update is scaled by the metric ÷; None where the server asks for the metric first.
    """

    scheme: str
    party: str
    clients: tuple[str, ...]
    seed: int
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    weighted_by: str | None
    examples: float | None

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Begin":
        """What `text` gave.

        Raises:
            WireError: something else.
        """
        try:
            told = json.loads(text)
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise WireError(f"the beginning of a round cannot be read: {error}") from None


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


def check_arrays(arrays: Mapping[str, Tensor], like: Mapping[str, Tensor], whose: str) -> None:
    """Refuse arrays of another set, or one of another shape or dtype.

    Raises:
        GradwireError: naming the array.
    """
    for name in dict.fromkeys((*like, *arrays)):
        found, due = (
            f"shape {tuple(each[name].shape)} of {each[name].dtype}" if name in each else "nothing"
            for each in (arrays, like)
        )
        if found != due:
            raise GradwireError(f"{whose} hold {found} as {name!r}; {due} was due: a layout must not change in a run")


def pick(tensors: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Some of the arrays.

    Raises:
        GradwireError: one that there is not.
    """
    for name in names:
        if name not in tensors:
            raise GradwireError(f"parameter {name!r} is not among the arrays {', '.join(tensors)}")
    return {name: tensors[name] for name in names}


def pack(state: State) -> bytes:
    """A state as bytes."""
    return bytes(Message("", "", 0, "state", state).encode())


def read(data: object) -> Message:
    """A message from a field of a record.

    Raises:
        WireError: the field holds none.
    """
    if not isinstance(data, bytes):
        raise WireError(f"a record of gradwire's holds {type(data).__name__} where a message should be")
    return Message.decode(data)
