"""A plain DistributedDataParallel script; the one line marked below compresses what its workers send each other.

    torchrun --nproc-per-node 2 examples/ddp.py --scheme powersgd:rank=4
    torchrun --nproc-per-node 2 examples/ddp.py --scheme topk:ratio=0.05 --batch 1 --epochs 1 --record steps --until 5
    gradwire audit --transcript steps.0 --model lenet --data digits --truth steps.0.batch

The last command attacks what worker 0 sent in step 5, alone and as somebody who heard the steps before it, and scores
the answers by the batch that the script kept. On several machines, torchrun takes the same flags on each, and its own:

    torchrun --nnodes 2 --node-rank 0 --master-addr HOST --master-port 29500 --nproc-per-node 4 examples/ddp.py
"""

import argparse

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import gradwire
from gradwire import data

parser = argparse.ArgumentParser()
parser.add_argument("--scheme", default="powersgd:rank=4")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--record", help="write the first steps of each worker to this file, with its rank appended")
parser.add_argument("--until", type=int, default=0, help="the last step that is recorded")
options = parser.parse_args()

dist.init_process_group("gloo")
torch.manual_seed(0)
digits = data.load("digits", "train")
images, labels = digits.batch(range(len(digits)))
examples = TensorDataset(images, labels)
sampler: DistributedSampler = DistributedSampler(examples)
loader = DataLoader(examples, options.batch, sampler=sampler, drop_last=True)

network = digits.network("lenet", seed=0)
model = DistributedDataParallel(network)
state, hook = gradwire.ddp_hook(options.scheme, model)
model.register_comm_hook(state, hook)  # <- the one line (two with the one above it, to have the state at hand)

state.record, state.recorder.keep = bool(options.record), None
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(options.epochs):
    sampler.set_epoch(epoch)
    state.epoch = epoch
    for x, y in loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if state.record and state.step > options.until:
            state.save_transcript(f"{options.record}.{dist.get_rank()}")
            torch.save({"inputs": x, "targets": y}, f"{options.record}.{dist.get_rank()}.batch")
            state.record = False
    if dist.get_rank() == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f}, {state.bytes_up / 1e6:.2f} MB sent")
dist.destroy_process_group()
