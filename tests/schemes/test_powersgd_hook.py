"""PowerSGD against PyTorch's own: two DDP processes with its communication hook, and ours on the same gradients."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as theirs

from tests.distributed import workers
from tests.schemes.rounds import SHAPES, Cluster, random_update

WORKERS, STEPS, WARM_UP, RANK = 2, 5, 2, 2
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


class Linear(nn.Module):
    """A module whose gradient is whatever it is fed: the loss is ⟨parameters, gradient⟩."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in SHAPES.values())

    def forward(self, update):
        return sum((weight * g).sum() for weight, g in zip(self.weights, update.values(), strict=True))


def starts(dtype) -> dict[str, torch.Tensor]:
    """The Q that both sides begin with."""
    shapes = {"conv.weight": (36, RANK), "head.weight": (24, RANK)}
    return {name: tensor.to(dtype) for name, tensor in random_update(99, shapes).items()}


def gradients(step: int, rank: int, dtype) -> dict[str, torch.Tensor]:
    return {name: 0.1 * tensor.to(dtype) for name, tensor in random_update(100 * step + rank).items()}


def worker(rank: int, port: int, path: str) -> None:
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=WORKERS)
    found = {dtype: trained(rank, dtype) for dtype in TOLERANCES}
    if rank == 0:
        torch.save(found, path)
    dist.barrier()
    # Now and then a thread of gloo's outlives its group, and an ordinary exit then aborts the process.
    os._exit(0)


def trained(rank: int, dtype: torch.dtype) -> list[dict[str, torch.Tensor]]:
    """What their hook makes of each step's gradients, after its plain ones."""
    model = Linear().to(dtype)
    q = starts(dtype)
    names = {id(p): name for name, p in zip(SHAPES, model.weights, strict=True)}
    ddp = nn.parallel.DistributedDataParallel(model)
    state = theirs.PowerSGDState(
        None, matrix_approximation_rank=RANK, start_powerSGD_iter=WARM_UP, min_compression_rate=1
    )

    def hook(state, bucket):
        index = bucket.index()
        if state.iter >= WARM_UP and index not in state.p_memory_dict:
            order = [names[id(p)] for p in bucket.parameters()]
            state.q_memory_dict[index] = torch.cat([q[name].reshape(-1) for name in order if name in q])
            entries = sum(SHAPES[name][0] * RANK for name in order if name in q)
            state.p_memory_dict[index] = torch.zeros(entries, dtype=dtype)
        return theirs.powerSGD_hook(state, bucket)

    ddp.register_comm_hook(state, hook)
    results = []
    for step in range(WARM_UP + STEPS):
        ddp.zero_grad()
        ddp(gradients(step, rank, dtype)).backward()
        results.append({names[id(p)]: p.grad.clone() for p in model.parameters()})
    return results[WARM_UP:]


@pytest.mark.slow
def test_agrees_with_pytorchs_hook_step_for_step(tmp_path):
    path = tmp_path / "theirs.pt"
    workers.start_all(worker, (workers.free_port(), str(path)), WORKERS)
    for dtype, expected in torch.load(path, weights_only=False).items():
        assert len(expected) == STEPS
        cluster = Cluster.of(f"powersgd:rank={RANK}", [gradients(0, 0, dtype)] * WORKERS)
        cluster.public = starts(dtype)
        for step, reference in enumerate(expected, start=WARM_UP):
            aggregate, _ = cluster.run([gradients(step, rank, dtype) for rank in range(WORKERS)])
            for name, tensor in reference.items():
                torch.testing.assert_close(aggregate[name], tensor, atol=TOLERANCES[dtype], rtol=0)
