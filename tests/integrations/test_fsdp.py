"""A scheme between the replicas of sharded models, in four real processes, against the same rounds in one process."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

import gradwire
from gradwire.errors import GradwireError
from gradwire.integrations import fsdp
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, parse
from gradwire.seeds import number
from gradwire.wire import InProcess, client
from tests.distributed import workers
from tests.integrations.steps import batch, network

STEPS, LR = 3, 0.05
SPECS = ("none", "topk:ratio=0.05", "powersgd:rank=2")


def sharded(dims=1):
    """The network sharded over two workers, its last layer with the root, and the group of this worker's replicas."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
    model = network()
    for layer in (model[1], model[3]):
        fully_shard(layer, mesh=mesh["shards"] if dims == 1 else mesh)
    fully_shard(model, mesh=mesh["shards"] if dims == 1 else mesh)
    return model, mesh["replicas"].get_group()


def steps(model, rank, span):
    """Each step's gradients, this worker's shards of them."""
    found = []
    for step in span:
        model.zero_grad()
        inputs, labels = batch(step, rank)
        cross_entropy(model(inputs), labels).backward()
        found.append({name: p.grad.to_local().clone() for name, p in model.named_parameters()})
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(p.grad, alpha=LR)
    return found


def trained(transport):
    found = {}
    for spec in SPECS:
        model, replicas = sharded()
        state = gradwire.fsdp_hook(spec, model, replicas)
        found[spec] = steps(model, dist.get_rank(), range(STEPS)), state.bytes_up, state.step
    return found


def expected(spec):
    """Each step's gradients by worker, from rounds between the replicas of each module's shards in this process."""
    model, scheme, parties = network(), parse(spec), tuple(map(client, range(2)))
    modules = [[n for n, _ in model.named_parameters() if n.startswith(start)] for start in ("5.", "1.", "3.")]
    memory, public, found, sent = {}, {}, [], 0
    for step in range(STEPS):
        own = []
        for rank in range(4):
            model.zero_grad()
            inputs, labels = batch(step, rank)
            cross_entropy(model(inputs), labels).backward()
            own.append({name: p.grad.clone() for name, p in model.named_parameters()})
        mean = [{name: (own[2 * r][name] + own[2 * r + 1][name]) / 2 for name in own[0]} for r in range(2)]
        shards = [{}, {}]
        for shard in range(2):
            for names in modules:
                updates = [{name: mean[r][name].chunk(2)[shard].contiguous() for name in names} for r in range(2)]
                layout, key = Layout.of(updates[0]), (shard, names[0])
                if key not in memory:
                    secrets = [number("private", 0, party, *names) for party in parties]
                    memory[key] = [scheme.private_state(layout, secret) for secret in secrets]
                    public[key] = scheme.public_state(layout)
                brought = {p: Contribution(updates[i], memory[key][i]) for i, p in enumerate(parties)}
                carrier = InProcess()
                ended = run_round(scheme, brought, public[key], Round(step, parties, 0, layout), carrier)
                memory[key], public[key] = [ended.private[p] for p in parties], ended.public
                shards[shard] |= {name: ended.aggregate[name] for name in names}
                sent += carrier.transcript.bytes_up("client:0") if shard == 0 else 0
        found.append(shards)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.sub_(torch.cat([shards[0][name], shards[1][name]]), alpha=LR)
    return found, sent


@pytest.mark.slow
def test_shards_are_exchanged_as_in_rounds_of_their_replicas(tmp_path):
    every = workers.run(trained, tmp_path, size=4)
    for spec in SPECS:
        due, sent = expected(spec)
        for rank, results in enumerate(every):
            gradients, up, ended = results[spec]
            assert ended == STEPS
            for step in range(STEPS):
                for name, tensor in gradients[step].items():
                    torch.testing.assert_close(tensor, due[step][rank % 2][name], atol=1e-5, rtol=1e-4)
            if rank == 0 and spec != "powersgd:rank=2":  # of which names of phases differ in length
                assert abs(up - sent) < 50 * STEPS * 3


def refused(transport):
    """What is said of a mesh of two dimensions, of a step that leaves parameters out, and of one to be recorded."""
    said = []
    model, replicas = sharded(dims=2)
    with pytest.raises(GradwireError) as error:
        gradwire.fsdp_hook("none", model, replicas)
    said.append(str(error.value))
    model, replicas = sharded()
    state = gradwire.fsdp_hook("none", model, replicas)
    model[5].weight.requires_grad_(False)
    with pytest.raises(GradwireError) as error:
        steps(model, dist.get_rank(), [0])
    said.append(str(error.value))
    state.record = True
    with pytest.raises(GradwireError) as error:
        steps(model, dist.get_rank(), [0])
    return [*said, str(error.value)]


@pytest.mark.slow
def test_what_cannot_be_compressed_is_refused(tmp_path):
    for mesh, unused, recorded in workers.run(refused, tmp_path, size=4):
        assert mesh.startswith("the mesh has 2 dimensions: fully_shard then sends whole gradients between replicas")
        assert "the model has gradients of" in unused
        assert recorded.startswith("state.record is set; steps of a sharded model are not recorded")


def test_without_replicas_or_without_shards_it_is_refused(monkeypatch):
    monkeypatch.setattr(fsdp, "dist", SimpleNamespace(get_world_size=lambda group: 1))
    with pytest.raises(GradwireError, match=r"replicas is a group of one worker; .* which gradwire does not compress"):
        gradwire.fsdp_hook("none", nn.Linear(2, 2), None)
    monkeypatch.setattr(fsdp, "dist", SimpleNamespace(get_world_size=lambda group: 2))
    with pytest.raises(GradwireError, match="Linear is not sharded; call fully_shard on it first, or use ddp_hook"):
        gradwire.fsdp_hook("none", nn.Linear(2, 2), None)
    with pytest.raises(GradwireError, match="needs a server apart from the clients; a hook of fully_shard does not"):
        gradwire.fsdp_hook("sga", nn.Linear(2, 2), None)
