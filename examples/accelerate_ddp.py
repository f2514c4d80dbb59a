"""Accelerate with a compressed DDP: its hook's state is saved and loaded with everything else, a file for each worker.

    torchrun --nproc-per-node 2 examples/accelerate_ddp.py --scheme powersgd:rank=4 --folder run
    torchrun --nproc-per-node 2 examples/accelerate_ddp.py --scheme powersgd:rank=4 --folder run --epochs 4 --resume

What `register_for_checkpointing` is given is written by the main process alone; residuals differ from worker to worker.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import gradwire
from gradwire import data

parser = argparse.ArgumentParser()
for name, default in (("--scheme", "powersgd:rank=4"), ("--folder", "run"), ("--epochs", 2)):
    parser.add_argument(name, default=default, type=type(default))
parser.add_argument("--resume", action="store_true")
options, digits = parser.parse_args(), data.load("digits", "train")

torch.manual_seed(0)
network = digits.network("lenet", seed=0)
examples = DataLoader(TensorDataset(*digits.batch(range(len(digits)))), 32, shuffle=True, drop_last=True)
accelerator = Accelerator(cpu=not torch.cuda.is_available())
model, optimizer, loader = accelerator.prepare(network, torch.optim.SGD(network.parameters(), 0.05, 0.9), examples)
state, hook = gradwire.ddp_hook(options.scheme, model)
model.register_comm_hook(state, hook)


def own(folder: str) -> Path:
    """This worker's file in a checkpoint."""
    return Path(folder, f"gradwire.{accelerator.process_index}")


def save(models, weights, folder):
    """Before Accelerate saves."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.save(state.state_dict(), own(folder))


accelerator.register_save_state_pre_hook(save)
accelerator.register_load_state_pre_hook(
    lambda models, folder: state.load_state_dict(torch.load(own(folder), weights_only=True))
)
if options.resume:
    accelerator.load_state(options.folder)
for epoch in range(state.epoch, options.epochs):
    state.epoch = epoch
    for x, y in loader:
        optimizer.zero_grad()
        accelerator.backward(cross_entropy(model(x), y))
        optimizer.step()
state.epoch = options.epochs
accelerator.save_state(options.folder)
accelerator.print(f"step {state.step}: {state.bytes_up / 1e6:.2f} MB sent by a worker")
accelerator.end_training()
