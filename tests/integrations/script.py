"""A DDP script with a fault in one of its workers, for torchrun: python script.py FOLDER SPEC STEPS [FAULT RANK STEP].

Every worker saves what it needs to go on after each step in which it is told to, and goes on with what it finds.
"""

import os
import resource
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradwire
from gradwire.wire import message, rendezvous
from tests.integrations.steps import batch, network

TIMEOUT, EVERY = 8, 3


def main(folder: str, spec: str, steps: str, fault: str = "", at_rank: str = "0", at_step: str = "0") -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT))
    rank = dist.get_rank()
    place, faulty = Path(folder, f"{rank}.pt"), fault and rank == int(at_rank)
    Path(folder, f"{rank}.pid").write_text(str(os.getpid()))
    if faulty and fault == "version":
        rendezvous.version = lambda package: "0.0.9"
    if faulty and fault == "format":
        message.VERSION = 9
    model = DistributedDataParallel(network(), bucket_cap_mb=0.2)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    state = None
    if not (faulty and fault == "no hook"):
        state, hook = gradwire.ddp_hook("none" if faulty and fault == "scheme" else spec, model)
        model.register_comm_hook(state, hook)
    if place.exists():
        saved = torch.load(place, weights_only=True)
        model.module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state.load_state_dict(saved["hook"])
    for step in range(0 if state is None else state.step, int(steps)):
        if faulty and step == int(at_step):
            if fault in ("kill", "stop"):
                os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
            if fault == "disk":
                state.record = True
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        optimizer.zero_grad()
        inputs, labels = batch(step, rank)
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        if faulty and fault == "disk" and step == int(at_step):
            state.save_transcript(Path(folder, "steps"))
        if (step + 1) % EVERY == 0 and step + 1 < int(steps):
            parts = {"model": model.module, "optimizer": optimizer, "hook": state}
            torch.save({name: part.state_dict() for name, part in parts.items()}, place)
    torch.save(model.module.state_dict(), Path(folder, f"{rank}.end"))
    dist.destroy_process_group()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
