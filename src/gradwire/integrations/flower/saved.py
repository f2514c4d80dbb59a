"""What a grid holds between two rounds, in a file: a ServerApp that starts again goes on bit for bit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gradwire.errors import GradwireError
from gradwire.integrations.flower.arrays import FederatedArrays
from gradwire.integrations.flower.members import Members
from gradwire.runs import replacing
from gradwire.schemes import State
from gradwire.schemes.halves import joined, under
from gradwire.wire import Message
from gradwire.wire.body import DTYPES, NAMES


@dataclass(frozen=True)
class BetweenRounds:
    """What a grid goes on from.

    Attributes:
        settings: what must be the same in a grid that goes on.
        place: numbers and names that the rounds have moved.
        public: the scheme's public state; None before the first round.
    """

    settings: Mapping[str, Any]
    place: Mapping[str, Any]
    arrays: FederatedArrays
    members: Members
    public: State | None

    def save(self, path: str | Path) -> None:
        """Write it; an interrupted write leaves what was there."""
        members, arrays = self.members, self.arrays
        facts: dict[str, Any] = {"settings": dict(self.settings), "place": dict(self.place)}
        facts |= {"parties": list(members.parties.items()), "named": members.named, "met": members.met}
        facts |= {"parameters": arrays.parameters, "buffers": arrays.buffers}
        facts |= {"like": {name: [list(t.shape), NAMES[t.dtype]] for name, t in arrays.like.items()}}
        facts |= {"begun": self.public is not None, "public": list(self.public or ())}
        states = {"public": self.public or {}, "means": arrays.means, "left": arrays.left, "keys": joined(members.keys)}
        said = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(Message("", "", 0, "grid", {"facts": said, **joined(states)}).encode())

    @classmethod
    def load(cls, path: str | Path, settings: Mapping[str, Any]) -> "BetweenRounds":
        """What `save` wrote, of a grid with these settings.

        Raises:
            GradwireError: no such file, something else, or the state of another grid.
        """
        if not Path(path).is_file():
            raise GradwireError(f"there is no saved grid {path}")
        message = Message.decode(Path(path).read_bytes())
        if message.phase != "grid":
            raise GradwireError(f"{path} holds {message.name}, no saved grid")
        facts = json.loads(message.tensors["facts"].numpy().tobytes())
        for name, here in settings.items():
            if (there := facts["settings"][name]) != here:
                raise GradwireError(f"{path} has {name}={there!r}; this grid has {name}={here!r}")
        like = {
            name: torch.empty(shape, dtype=DTYPES[kind], device="meta") for name, (shape, kind) in facts["like"].items()
        }
        public, means, left, keys = (under(message.tensors, name) for name in ("public", "means", "left", "keys"))
        members = Members(
            dict(facts["parties"]),
            facts["named"],
            facts["met"],
            {party: under(keys, party) for party in dict.fromkeys(name.partition("/")[0] for name in keys)},
        )
        arrays = FederatedArrays(facts["parameters"], facts["buffers"], like, means, left)
        begun = {name: public[name] for name in facts["public"]} if facts["begun"] else None
        return cls(settings, facts["place"], arrays, members, begun)
