"""What the hook keeps: nothing of unused parameters is lost, a state goes where it belongs, recordings are right."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.nn.functional import cross_entropy, relu
from torch.nn.parallel import DistributedDataParallel

import gradwire
from gradwire.errors import GradwireError
from gradwire.integrations.checkpoint import RankState
from gradwire.rounds.recording import load
from gradwire.schemes import SCHEMES, parse
from gradwire.wire import Need
from tests.distributed import workers
from tests.integrations.steps import batch, network, train, wrapped

FEEDBACK = ("topk:ratio=0.05", "powersgd:rank=1", "signsgd:error_feedback=true", "randomk:ratio=0.05")


class Branches(nn.Module):
    """Two branches, one of which is used in a step."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x, which):
        h = relu(self.a(x))
        return self.d(h + (self.c if which else self.b)(h))


def conserved(transport, spec):
    """For each parameter, how far what was applied is from what was computed less what is held back."""
    rank = transport.parties.index(transport.party)
    torch.manual_seed(0)
    model = Branches()
    parallel = DistributedDataParallel(model, bucket_cap_mb=0.001, find_unused_parameters=True)
    state, hook = gradwire.ddp_hook(spec, parallel)
    parallel.register_comm_hook(state, hook)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    computed = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    inputs = torch.randn(6, 16, 8, generator=torch.Generator().manual_seed(rank))
    labels = torch.arange(16) % 4
    for step in range(6):
        alone = cross_entropy(model(inputs[step], step % 2), labels)
        found = torch.autograd.grad(alone, list(model.parameters()), allow_unused=True)
        for name, g in zip(computed, found, strict=True):
            computed[name] += 0 if g is None else g
        parallel.zero_grad(set_to_none=True)
        cross_entropy(parallel(inputs[step], step % 2), labels).backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= p.grad
    private = state.state_dict()["private"]
    off = {}
    for name, p in model.named_parameters():
        held = [t.reshape(p.shape) for key, t in private.items() if key.split("|")[0] == name]
        due = computed[name] - sum(held)
        torch.distributed.all_reduce(due)
        off[name] = float((due / 2 - (before[name] - p.detach())).norm() / computed[name].norm())
    return off


@pytest.mark.slow
@pytest.mark.parametrize("spec", FEEDBACK)
def test_nothing_of_a_parameter_that_nobody_used_is_sent_and_lost(tmp_path, spec):
    for off in workers.run(conserved, tmp_path, spec):
        assert max(off.values()) < 1e-5


def misplaced(transport, how):
    rank = transport.parties.index(transport.party)
    model, state = wrapped("topk:ratio=0.1")
    train(model, rank, range(2))
    saved = state.state_dict()
    again, restored = wrapped("topk:ratio=0.1")
    if how == "rank 0's everywhere":
        box = [saved]
        torch.distributed.broadcast_object_list(box, 0)
        saved = box[0]
    if how == "other names":
        saved = {**saved, "parameters": [f"net.{name}" for name in saved["parameters"]]}
    if how == "prefixed":
        prefixed = {kind: {f"_orig_mod.{k}": t for k, t in saved[kind].items()} for kind in ("public", "private")}
        saved = {**saved, "parameters": [f"_orig_mod.{name}" for name in saved["parameters"]], **prefixed}
    try:
        if how != "one rank alone" or rank == 0:
            restored.load_state_dict(saved)
        again.module.load_state_dict(model.module.state_dict())
        expected = train(model, rank, range(2, 4))
        found = train(again, rank, range(2, 4))
    except (GradwireError, RuntimeError) as error:
        return str(error)
    return max(float((f[name] - e[name]).abs().max()) for f, e in zip(found, expected, strict=True) for name in f)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("rank 0's everywhere", "state has rank=0; this hook has rank=1"),
        ("other names", "state is of another model: only"),
        ("one rank alone", "step=0; worker client:0 has step=2"),
    ],
)
def test_a_state_of_another_place_is_refused(tmp_path, how, message):
    assert message in workers.run(misplaced, tmp_path, how)[1]


@pytest.mark.slow
def test_names_that_torch_compile_has_prefixed_are_the_same_names(tmp_path):
    assert max(workers.run(misplaced, tmp_path, "prefixed")) < 1e-6


def exactly_resumed(transport, spec, folder=""):
    rank = transport.parties.index(transport.party)
    small = spec != "qsgd"  # which draws a number an entry, bucket by bucket: DDP's first buckets are others than later
    whole, _ = wrapped(spec, small)
    expected = train(whole, rank, range(6))[3:]
    part, state = wrapped(spec, small)
    train(part, rank, range(3))
    again, restored = wrapped(spec, small)
    if folder:
        dcp.save({"gradwire": RankState(state)}, checkpoint_id=folder)
        dcp.load({"gradwire": RankState(restored)}, checkpoint_id=folder)
    else:
        restored.load_state_dict(state.state_dict())
    again.module.load_state_dict(part.module.state_dict())
    found = train(again, rank, range(3, 6))
    return all(torch.equal(f[name], e[name]) for f, e in zip(found, expected, strict=True) for name in f)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["randomk:ratio=0.05", "qsgd", "dgc:ratio=0.05", "powersgd:rank=2"])
def test_a_scheme_resumes_to_the_last_bit(tmp_path, spec):
    assert workers.run(exactly_resumed, tmp_path, spec) == [True, True]


@pytest.mark.slow
def test_a_distributed_checkpoint_keeps_each_ranks_own_residual(tmp_path):
    assert workers.run(exactly_resumed, tmp_path, "topk:ratio=0.05", str(tmp_path / "saved")) == [True, True]


def test_a_checkpoint_without_this_rank_is_refused():
    state, _ = gradwire.ddp_hook("topk:ratio=0.1", network())
    with pytest.raises(GradwireError, match="the checkpoint has no state of rank0; it has rank1"):
        RankState(state).load_state_dict({"rank1": {}})


def double(transport):
    model, _ = wrapped("powersgd:rank=2", kind=torch.float64)
    rank = transport.parties.index(transport.party)
    for step in range(3):
        inputs, labels = batch(step, rank)
        cross_entropy(model(inputs.double()), labels).backward()
    return {name: p.grad.dtype for name, p in model.module.named_parameters()}


@pytest.mark.slow
def test_a_float64_model_goes_through(tmp_path):
    for dtypes in workers.run(double, tmp_path):
        assert set(dtypes.values()) == {torch.float64}


def normalised(transport, path):
    rank = transport.parties.index(transport.party)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    model = DistributedDataParallel(net, broadcast_buffers=False)
    state, hook = gradwire.ddp_hook("none", model)
    model.register_comm_hook(state, hook)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state.record = True
    inputs, labels = batch(0, rank)
    cross_entropy(model(inputs), labels).backward()
    state.save_transcript(f"{path}/{rank}.step")
    changed = [name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])]
    return changed, [name for name, t in state.recording().model.items() if not torch.equal(t, before[name])]


@pytest.mark.slow
def test_a_recording_holds_the_model_before_the_forward_pass(tmp_path):
    for changed, recorded in workers.run(normalised, tmp_path, str(tmp_path)):
        assert "1.running_mean" in changed
        assert not recorded
    assert (tmp_path / "0.step").stat().st_mode & 0o777 == 0o600
    (found,) = load(tmp_path / "0.step").values()
    assert not found.notes


@pytest.mark.parametrize("name", [n for n in SCHEMES if n not in ("topk", "randomk", "noise", "sparsify")])
def test_each_scheme_that_needs_more_than_a_hook_has_is_refused_by_name(name):
    lacking = [need for need in parse(name).needs if need not in (Need.SINGLE_GRADIENT, Need.OWN_NETWORK)]
    if lacking:
        with pytest.raises(GradwireError, match=f"scheme '{name}' needs .*; a DDP hook does not offer that"):
            gradwire.ddp_hook(name, network())
    elif name != "precode":
        assert gradwire.ddp_hook(name, network())
