"""A model's parameters in fragments that have rounds of their own, and a round that is on its way."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, Update
from gradwire.wire import Collective, Transcript


@dataclass
class Fragment:
    """A part of the parameters, sent together at steps that leave `offset` when divided by H; the scheme's state."""

    layout: Layout
    offset: int
    public: State
    private: State


def fragments_of(layout: Layout, number: int, every: int, scheme: Scheme) -> list[Fragment]:
    """Parts of consecutive parameters with about as many entries each, whose rounds are spread over `every` steps."""
    places = {name: min(number - 1, number * at // layout.size) for name, at in layout.offsets.items()}
    found = []
    for each in range(number):
        part = layout.part([name for name in layout.shapes if places[name] == each])
        found.append(Fragment(part, each * every // number, scheme.public_state(part), {}))
    return found


@dataclass(frozen=True)
class Brought:
    """What a fragment's round brings this worker, and what it cost it in bytes."""

    aggregate: Update
    public: State
    private: State
    bytes_up: int
    bytes_down: int


def brought(scheme: Scheme, contribution: Contribution, public: State, round: Round, transport: Collective) -> Brought:
    """Run a round of a fragment with the other workers."""
    transport.transcript = transcript = Transcript(keep=0)
    party = transport.party
    result = run_round(scheme, {party: contribution}, public, round, transport)
    cost = transcript.bytes_up(party), transcript.bytes_down(party)
    return Brought(result.aggregate, result.public, result.private[party], *cost)


@dataclass(frozen=True, eq=False)
class Flight:
    """A round that is on its way: the fragment's number, and the step that is `due` to apply what it brings."""

    fragment: int
    due: int
    answer: Future[Brought]

    def state_dict(self) -> dict[str, Any]:
        """The same when it has ended, for which this waits."""
        brings = vars(self.answer.result())
        plain = {name: dict(each) if isinstance(each, Mapping) else each for name, each in brings.items()}
        return {"fragment": self.fragment, "due": self.due, **plain}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Flight":
        """What `state_dict` gave."""
        brings = dict(state)
        return cls(brings.pop("fragment"), brings.pop("due"), at_once(lambda: Brought(**brings)))


def at_once(work: Callable[[], Brought]) -> Future[Brought]:
    """What a thread would do beside other things, done here and now."""
    answer = Future[Brought]()
    answer.set_result(work())
    return answer
