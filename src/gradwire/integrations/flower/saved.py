"""What a grid holds between two rounds, in a file: a ServerApp that starts again goes on bit for bit."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gradwire.errors import GradwireError
from gradwire.integrations.flower.members import Members
from gradwire.runs import replacing
from gradwire.schemes.halves import joined, under
from gradwire.wire import Message
from gradwire.wire.body import DTYPES, NAMES

if TYPE_CHECKING:
    from gradwire.integrations.flower.grid import SchemeGrid

SETTINGS = ("seed", "weighted_by", "lr", "replies")
"""What must be the same in a grid that goes on."""
PLACE = ("round", "epoch", "examples", "_run", "_turn", "_questions")


def save(grid: "SchemeGrid", path: str | Path) -> None:
    """Write a grid's state; an interrupted write leaves what was there."""
    facts = {"scheme": grid.scheme.spec} | {name: getattr(grid, name) for name in (*SETTINGS, *PLACE)}
    members = grid.members
    facts |= {"parties": list(members.parties.items()), "named": members.named, "met": members.met}
    facts |= {"parameters": grid.arrays.parameters, "buffers": grid.arrays.buffers}
    facts |= {"like": {name: [list(t.shape), NAMES[t.dtype]] for name, t in grid.arrays.like.items()}}
    facts |= {"begun": grid.public is not None, "public": list(grid.public or ())}
    states = {
        "public": grid.public or {},
        "means": grid.arrays.means,
        "left": grid.arrays.left,
        "keys": joined(members.keys),
    }
    tensors = {"facts": torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8), **joined(states)}
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(Message("", "", grid.round, "grid", tensors).encode())


def load(grid: "SchemeGrid", path: str | Path) -> None:
    """Go on from what `save` wrote.

    Raises:
        GradwireError: no such file, something else, or the state of another grid.
    """
    if not Path(path).is_file():
        raise GradwireError(f"there is no saved grid {path}")
    message = Message.decode(Path(path).read_bytes())
    if message.phase != "grid":
        raise GradwireError(f"{path} holds {message.name}, no saved grid")
    facts = json.loads(message.tensors["facts"].numpy().tobytes())
    for name, here in {"scheme": grid.scheme.spec, **{name: getattr(grid, name) for name in SETTINGS}}.items():
        if facts[name] != here:
            raise GradwireError(f"{path} has {name}={facts[name]!r}; this grid has {name}={here!r}")
    for name in PLACE:
        setattr(grid, name, facts[name])
    grid.arrays.parameters, grid.arrays.buffers = facts["parameters"], facts["buffers"]
    grid.arrays.like = {
        name: torch.empty(shape, dtype=DTYPES[kind], device="meta") for name, (shape, kind) in facts["like"].items()
    }
    public, grid.arrays.means = under(message.tensors, "public"), under(message.tensors, "means")
    grid.arrays.left = under(message.tensors, "left")
    grid.public = {name: public[name] for name in facts["public"]} if facts["begun"] else None
    keys = under(message.tensors, "keys")
    grid.members = Members(
        dict(facts["parties"]),
        facts["named"],
        facts["met"],
        {party: under(keys, party) for party in dict.fromkeys(name.partition("/")[0] for name in keys)},
    )
