"""How the processes that torchrun started find one another, and make sure that they are of one mind."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version

import torch
import torch.distributed as dist

from gradwire.errors import GradwireError, WireError
from gradwire.wire.collective import Collective
from gradwire.wire.parameter_server import ParameterServer
from gradwire.wire.roll_call import Place
from gradwire.wire.transcript import Transcript


def launched() -> bool:
    """Whether torchrun, or something like it, started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def world_size() -> int:
    """How many processes were started together."""
    try:
        return int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        raise GradwireError(f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')!r}; it must be a whole number") from None


@contextmanager
def joined(
    device: str = "cpu", timeout: float = 300, transcript: Transcript | None = None, server: bool = False
) -> Iterator[Collective]:
    """The transport to the other processes: over nccl for CUDA devices, over gloo otherwise.

    Args:
        server: whether process 0 is to be a server beside its client, for schemes that need one.
        timeout: seconds after which a process that does not answer counts as gone.

    Raises:
        WireError: they do not come together in this time.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WireError(f"the {world_size()} workers did not come together in {timeout:g} s: {reason}") from error
    try:
        yield ParameterServer(transcript, patience=timeout) if server else Collective(transcript)
    finally:
        dist.destroy_process_group()


def agree(transport: Collective, facts: Mapping[str, object]) -> None:
    """Make sure that all processes hold the same facts and run the same version; learn where each of them lives.

    Raises:
        GradwireError: in every process, naming the first fact that differs, and whose.
    """
    own = {"gradwire": version("gradwire"), "torch": torch.__version__, **facts}
    here = json.dumps([own, asdict(Place.here())], default=str)
    told = transport.share({transport.party: {"facts": torch.frombuffer(bytearray(here.encode()), dtype=torch.uint8)}})
    read = {party: json.loads(tensors["facts"].numpy().tobytes()) for party, tensors in told.items()}
    held = {party: facts for party, (facts, _) in read.items()}
    transport.roll.places = {transport.parties.index(party): Place(**place) for party, (_, place) in read.items()}
    first, *rest = held
    for party in rest:
        for name in held[first] | held[party]:
            here, there = held[first].get(name), held[party].get(name)
            if here != there:
                raise GradwireError(f"worker {party} has {name}={there}; worker {first} has {name}={here}")
