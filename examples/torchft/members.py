"""Workers who come and go: torchft's lighthouse says who is alive, and the outer step goes on with those.

torchft_lighthouse --bind [::]:29510 --min_replicas 1 --join_timeout_ms 1000 --heartbeat_timeout_ms 1000
python examples/torchft/members.py ann http://localhost:29510  # each in a terminal of its own; end one, start a third
"""

import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torchft.coordination import LighthouseClient

import gradwire

NAME, LIGHTHOUSE, WAIT = sys.argv[1], sys.argv[2], timedelta(seconds=60)


def beat() -> None:
    """Tell the lighthouse that this worker is alive."""
    own = LighthouseClient(LIGHTHOUSE, WAIT)
    while True:
        own.heartbeat(NAME)
        time.sleep(0.2)


def gather(known: str) -> str:
    """Meet those who are alive; where they are others than before, in a process group of their own."""
    quorum = lighthouse.quorum(NAME, WAIT, store_address=f"localhost:{store.port}", world_size=1)
    members = {member.replica_id: member.store_address for member in quorum.participants}
    if quorum.quorum_id != known:
        if dist.is_initialized():
            dist.destroy_process_group()
        host, port = next(iter(members.values())).split(":")
        common = dist.PrefixStore(str(quorum.quorum_id), dist.TCPStore(host, int(port), timeout=WAIT))
        dist.init_process_group("gloo", store=common, rank=[*members].index(NAME), world_size=len(members))
    return quorum.quorum_id


store, lighthouse = dist.TCPStore("localhost", 0, is_master=True), LighthouseClient(LIGHTHOUSE, WAIT)
threading.Thread(target=beat, daemon=True).start()
torch.manual_seed(0)
model, truth, met, outer = torch.nn.Linear(100, 10), torch.randn(100, 10), "", None
optimizer, random = torch.optim.SGD(model.parameters(), 0.05), torch.Generator().manual_seed(len(NAME))
while True:
    try:
        before, met = met, gather(met)
        if outer is None:
            outer = gradwire.outer_step(model, "topk:ratio=0.1", every=20, lr=1.0, momentum=0.0)
        elif met != before:
            outer.regroup()
        for _ in range(20):
            x = torch.randn(32, 100, generator=random)
            optimizer.zero_grad()
            loss = (model(x) - x @ truth).square().mean()
            loss.backward()
            optimizer.step()
            outer.step()
        print(f"round {outer.rounds} of {dist.get_world_size()} members: loss {loss.item():.4f}", flush=True)
    except gradwire.WireError as error:
        print(error, flush=True)
