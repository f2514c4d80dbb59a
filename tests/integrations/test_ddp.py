"""The DDP hook, in real processes, against the same scheme in a simulation."""

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradwire
from gradwire.errors import GradwireError
from gradwire.integrations import ddp_hook
from gradwire.integrations.memory import gather, split
from gradwire.rounds.recording import load
from gradwire.schemes import Layout, Round, observation, parse
from gradwire.schemes.buckets import Bucketed
from gradwire.schemes.gradients import Full
from gradwire.seeds import number
from gradwire.wire import InProcess, Transcript, client
from gradwire.wire.transport import drive
from tests.distributed import workers
from tests.distributed.test_collective import SCHEMES
from tests.integrations.steps import STEPS, batch, network, train, wrapped
from tests.schemes.rounds import random_update


def every_scheme(transport):
    rank = transport.parties.index(transport.party)
    results = {}
    for spec in SCHEMES:
        model, state = wrapped(spec)
        inputs, labels = batch(0, rank)
        cross_entropy(model(inputs), labels).backward()
        state.__init__(state.scheme, model)  # from here on DDP's buckets stay as they are
        gradients = train(model, rank, range(STEPS))
        buckets = tuple(state._buckets)
        results[spec] = gradients, buckets, state.bytes_up, state.step, sorted(state.state_dict()["private"])
    return results


def simulated(spec, buckets):
    """What each step's gradients are where every bucket goes through the scheme in one process."""
    model = network()
    layout = Layout.of_model(model)
    parties = tuple(client(i) for i in range(2))
    scheme = Bucketed(parse(spec), buckets)
    private = {}
    for party in parties:
        parts = []
        for names, part in zip(buckets, scheme.layouts(layout), strict=True):
            parts.append(scheme.scheme.private_state(part, number("private", 0, party, *names)))
        private[party] = {f"{i}/{name}": t for i, part in enumerate(parts) for name, t in part.items()}
    public, found, transport = {}, [], InProcess(Transcript())
    for step in range(STEPS):
        updates = {}
        for rank, party in enumerate(parties):
            model.zero_grad()
            inputs, labels = batch(step, rank)
            cross_entropy(model(inputs), labels).backward()
            updates[party] = {name: p.grad.clone() for name, p in model.named_parameters()}
        round = Round(step, parties, 0, layout)
        halves = {p: scheme.client(updates[p], private[p], public, round) for p in parties}
        outcomes, served = drive(transport, halves, scheme.server(public, round), step)
        private = {p: outcomes[p].private for p in parties}
        public = served.public
        found.append(served.aggregate)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p -= 0.05 * served.aggregate[name]
    return found, transport.transcript.bytes_up("client:0")


@pytest.mark.slow
def test_every_scheme_goes_as_it_does_in_a_simulation(tmp_path):
    first, second = workers.run(every_scheme, tmp_path)
    buckets = first["qsgd"][1]
    assert len(buckets) == 2
    for spec in SCHEMES:
        gradients, own, up, steps, private = first[spec]
        assert own in ((), buckets)  # what is sent whole has no state
        assert sorted(name for names in buckets for name in names) == sorted(dict(network().named_parameters()))
        assert steps == STEPS
        assert private == second[spec][4]
        for mine, theirs in zip(gradients, second[spec][0], strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        expected, up_there = simulated(spec, buckets)
        for mine, theirs in zip(gradients, expected, strict=True):
            for name in mine:
                torch.testing.assert_close(mine[name], theirs[name], atol=1e-5, rtol=1e-4)
        assert up == up_there


def resuming(transport, spec, path):
    """Six steps at once, and three, saved, and three more under a new hook; then with other buckets."""
    rank = transport.parties.index(transport.party)
    whole, _ = wrapped(spec)
    expected = train(whole, rank, range(STEPS))
    part, state = wrapped(spec)
    train(part, rank, range(3))
    torch.save(state.state_dict(), f"{path}/{rank}.state")
    saved = torch.load(f"{path}/{rank}.state", weights_only=True)
    results = []
    for small in (True, False):
        again, restored = wrapped(spec, small)
        restored.load_state_dict(saved)
        again.module.load_state_dict(part.module.state_dict())
        results.append((train(again, rank, range(3, STEPS)), restored.step))
    return expected[3:], results


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["powersgd:rank=2", "topk:ratio=0.05", "dgc:ratio=0.05"])
def test_a_restored_state_goes_on_as_if_nothing_had_happened(tmp_path, spec):
    for expected, results in workers.run(resuming, tmp_path, spec, str(tmp_path)):
        for found, step in results:
            assert step == STEPS
            for mine, theirs in zip(found, expected, strict=True):
                for name in mine:
                    torch.testing.assert_close(mine[name], theirs[name], atol=1e-5, rtol=1e-4)


def recording(transport, spec, path):
    rank = transport.parties.index(transport.party)
    model, state = wrapped(spec)
    train(model, rank, range(2))
    state.record = True
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    train(model, rank, [2])
    state.save_transcript(f"{path}/{rank}.transcript")
    return before


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec", ["none", "half", "powersgd:rank=2,error_feedback=false", "topk:ratio=0.1,error_feedback=false", "qsgd"]
)
def test_a_recorded_step_is_a_view_of_it(tmp_path, spec):
    states = workers.run(recording, tmp_path, spec, str(tmp_path))
    for rank, before in enumerate(states):
        (recorded,) = load(tmp_path / f"{rank}.transcript").values()
        inputs, labels = batch(2, rank)
        view = recorded.view(network(), tuple(inputs.shape), labels)
        assert all(torch.equal(view.model.state_dict()[name], tensor) for name, tensor in before.items())
        cross_entropy(view.model(inputs), labels).backward()
        scheme, seen = observation(view)
        measured = scheme.measure(seen)
        assert set(measured) == set(before)
        for name, terms in measured.items():
            truth = view.model.get_parameter(name).grad[None]
            for term in terms:
                broken = term.violation(Full(truth))
                if broken is not None:
                    assert float(broken) < 1e-6
                else:
                    torch.testing.assert_close(term.apply(Full(truth)), term.observed, atol=1e-6, rtol=1e-4)
        guess = gradwire.invert(view, iterations=2)
        assert guess.inputs.shape == (1, *inputs.shape)


def from_the_start(transport, path):
    """Four steps, all recorded, and a window of the last two; the residual before the window."""
    rank = transport.parties.index(transport.party)
    for name, keep in (("all", None), ("window", 2)):
        model, state = wrapped("topk:ratio=0.05", small=False)
        model.module[2].eval()
        state.record, state.recorder.keep = True, keep
        train(model, rank, range(2))
        with torch.no_grad():
            model(batch(9, rank)[0])  # no step's: nothing is learned from it
        held = {name.partition("|")[0]: t.clone() for name, t in state.state_dict()["private"].items()}
        train(model, rank, range(2, 4))
        state.save_transcript(f"{path}/{name}.{rank}")
    return held


@pytest.mark.slow
def test_every_step_from_a_chosen_one_on_is_recorded_or_a_window_with_the_state_before_it(tmp_path):
    held = workers.run(from_the_start, tmp_path, str(tmp_path))[1]
    every, window = (load(tmp_path / f"{name}.1") for name in ("all", "window"))
    assert (list(every), list(window)) == ([0, 1, 2, 3], [2, 3])
    assert {(r.batch, r.passes, r.evaluated) for r in every.values()} == {(8, 1, ("2",))}
    assert [bool(r.notes) for r in every.values()] == [False, True, True, True]
    assert not window[3].held
    layout = Layout.of_model(network())
    kept = Bucketed(parse("topk:ratio=0.05"), window[2].buckets).kept_back(window[2].held, layout)
    assert set(kept) == set(held)
    assert all(torch.equal(kept[name], held[name].view(kept[name].shape)) for name in held)
    assert any(bool(t.any()) for t in kept.values())


def warming(transport):
    """Steps of which the first two are dense, and the same of two schemes throughout."""
    rank = transport.parties.index(transport.party)
    found = {}
    for name, spec, dense in (("warm", "topk:ratio=0.05", 2), ("none", "none", 0)):
        model = DistributedDataParallel(network())
        state, hook = ddp_hook(spec, model, dense_steps=dense)
        model.register_comm_hook(state, hook)
        found[name] = train(model, rank, range(3)), state.state_dict()["private"]
    return found


@pytest.mark.slow
def test_the_first_steps_may_be_dense(tmp_path):
    (first, held), (second, _) = workers.run(warming, tmp_path)[0].values()
    for step in range(2):
        assert all(torch.equal(first[step][name], second[step][name]) for name in first[step])
    zeros = torch.cat([g.flatten() for g in first[2].values()]) == 0
    assert float(zeros.float().mean()) > 0.85
    assert any(bool(t.any()) for t in held.values())


def under_a_name_of_its_own(state, bucket):
    """PyTorch refuses its bf16 hook by its name where there is no NCCL; over gloo it works."""
    return default_hooks.bf16_compress_hook(state, bucket)


def beside_pytorch(transport, folder):
    """Gradients by PyTorch's hooks and by ours, by ours while one worker records; bytes of both."""
    rank = transport.parties.index(transport.party)
    hooks = {
        "none": default_hooks.allreduce_hook,
        "half": under_a_name_of_its_own,
        "half:dtype=fp16": default_hooks.fp16_compress_hook,
    }
    found = {}
    for spec, theirs in hooks.items():
        model = DistributedDataParallel(network(), bucket_cap_mb=0.2)
        model.register_comm_hook(None, theirs)
        expected = train(model, rank, range(STEPS))
        model, state = wrapped(spec)
        ours = train(model, rank, range(STEPS))
        sent = [state.bytes_up, state.bytes_down]
        recorded_model, recorded = wrapped(spec)
        recorded.record = transport.leads  # what one worker records is nothing to the others
        by_messages = train(recorded_model, rank, range(STEPS))
        assert bool(recorded.recorder.rounds) == transport.leads
        found[spec] = expected, ours, by_messages, sent, [recorded.bytes_up, recorded.bytes_down]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_what_is_sent_whole_is_bit_for_bit_what_pytorchs_hooks_make_of_it(tmp_path, size):
    for found in workers.run(beside_pytorch, tmp_path, str(tmp_path), size=size):
        for spec, (expected, ours, by_messages, sent, counted) in found.items():
            for theirs, mine, told in zip(expected, ours, by_messages, strict=True):
                for name in theirs:
                    if spec != "none" or size == 2:  # a third, before the sum or after it, is rounded otherwise
                        assert torch.equal(mine[name], theirs[name]), (spec, name)
                    assert torch.equal(told[name], mine[name]), (spec, name)
            assert sent == counted, spec
        entries = sum(p.numel() for p in network().parameters())
        assert 2 * entries * STEPS < found["half"][3][0] < 2 * entries * STEPS + 400 * STEPS


def test_state_follows_parameters_into_other_buckets():
    update = random_update(0)
    names = list(update)
    old = [Layout({n: tuple(update[n].shape) for n in part}) for part in (names[:2], names[2:])]
    new = [Layout({n: tuple(update[n].shape) for n in part}) for part in (names[1:3], [names[3], names[0]])]
    scheme = parse("dgc")
    loose = {}
    for layout in old:
        loose |= split({"velocity": layout.flatten(update), "key": torch.ones(1)}, layout)
    for layout in new:
        state = gather(loose, scheme.private_state(layout), layout)
        assert torch.equal(state["velocity"], layout.flatten(update))
        assert not state["momentum"].any()
    q = {"conv.weight": torch.ones(36, 2)}
    assert gather(split(q, old[0]), {}, new[1]) == q


def test_a_state_of_another_scheme_is_refused():
    state, _ = ddp_hook("powersgd:rank=2", network())
    other, _ = ddp_hook("topk:ratio=0.1", network())
    with pytest.raises(GradwireError, match=r"scheme='powersgd:rank=2'; this hook has scheme='topk:ratio=0.1'"):
        other.load_state_dict(state.state_dict())


def test_without_a_recorded_step_there_is_nothing_to_save(tmp_path):
    state, _ = ddp_hook("none", network())
    with pytest.raises(GradwireError, match=r"no step was recorded; set state\.record = True"):
        state.save_transcript(tmp_path / "x")
    with pytest.raises(GradwireError, match="there is no transcript"):
        load(tmp_path / "x")


@pytest.mark.parametrize("spec", ["sga", "ssga:compression=10", "powersgd:rank=2+sga"])
def test_a_scheme_that_needs_a_server_is_refused(spec):
    with pytest.raises(GradwireError, match="needs a server apart from the clients"):
        gradwire.ddp_hook(spec, torch.nn.Linear(2, 2))
