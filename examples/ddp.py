"""A plain DistributedDataParallel script; the one line marked below compresses what its workers send each other.

    torchrun --nproc-per-node 2 examples/ddp.py --scheme powersgd:rank=4
    torchrun --nproc-per-node 2 examples/ddp.py --scheme topk:ratio=0.01 --record step.transcript
    gradwire audit --transcript step.transcript.0 --model lenet --data digits

The last command attacks what worker 0 sent in the recorded step: with --batch 1 (the default here is 32) it can infer
the label as well. On several machines, torchrun takes the same flags on each, and its own:

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
parser.add_argument("--record", help="write the last step of each worker to this file, with its rank appended")
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

optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(options.epochs):
    sampler.set_epoch(epoch)
    state.epoch = epoch
    for step, (x, y) in enumerate(loader):
        state.record = bool(options.record) and epoch == options.epochs - 1 and step == len(loader) - 1
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    if dist.get_rank() == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f}, {state.bytes_up / 1e6:.2f} MB sent")
if options.record:
    state.save_transcript(f"{options.record}.{dist.get_rank()}")
dist.destroy_process_group()
