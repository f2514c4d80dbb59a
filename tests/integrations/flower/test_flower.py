"""Schemes within Flower's own ClientApp and strategies, against the same rounds in one process."""

import pytest

pytest.importorskip("flwr")

import torch
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import FedAvg
from torch import nn

from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid, run
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, parse
from gradwire.seeds import number
from gradwire.wire import BUFFERS, InProcess, Transcript, client
from tests.integrations.flower.local import ArrayRecord, LocalGrid, app, ask

SPECS = ("topk:ratio=0.1", "powersgd:rank=2", "qsgd", "signsgd:error_feedback=true", "terngrad:clip=2")
"""With buffers, counters and plain training functions; `test_schemes` has them all."""
NODES = {70: 30, 11: 4, 42: 26}
"""Node → its examples."""
NAMES = ("w", "b")
ROUNDS = 3
ALL = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}


def start():
    return {"w": torch.zeros(12, 20), "b": torch.ones(7), "mean": torch.zeros(3), "seen": torch.tensor(0)}


def change(node, round, arrays):
    g = torch.Generator().manual_seed(1000 * node + round)
    moved = {name: torch.randn(arrays[name].shape, generator=g) for name in ("w", "b", "mean")}
    return {name: t + moved[name] if name in moved else t + 5 for name, t in arrays.items()}


def simulated(spec, weighted):
    """The arrays after the same rounds in one process."""
    scheme, arrays, carrier = parse(spec), start(), InProcess(Transcript())
    layout = Layout.of({name: arrays[name] for name in NAMES})
    parties = {client(i): node for i, node in enumerate(NODES)}
    private = {party: scheme.private_state(layout, number("flower", node, 1, node)) for party, node in parties.items()}
    public = scheme.public_state(layout)
    for index in range(ROUNDS):
        first = {name: arrays[name] for name in NAMES}
        round = Round(index, tuple(parties), 0, layout, start=first, weights="told" if weighted else "equal")
        brought = {}
        for party, node in parties.items():
            after = change(node, index + 1, arrays)
            update = {name: arrays[name] - after[name] for name in NAMES}
            buffers = {name: after[name] for name in ("mean", "seen")}
            brought[party] = Contribution(update, private[party], buffers, NODES[node] / 20 if weighted else 1.0)
        result = run_round(scheme, brought, public, round, carrier)
        private, public = result.private, result.public
        arrays = {name: arrays[name] - result.aggregate[name] for name in NAMES} | dict(result.buffers)
    return arrays, carrier.transcript


def federation(spec, secret=True, train=change, nodes=NODES, **how):
    inner = LocalGrid({n: app(spec, n, train, nodes[n], n if secret else None) for n in nodes})
    grid = SchemeGrid(inner, spec, how.pop("parameters", NAMES), transcript=Transcript(), **how)
    grid._parties = {node: client(i) for i, node in enumerate(nodes)}
    return inner, grid


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("spec", SPECS)
def test_flowers_fedavg_ends_where_the_simulation_does(spec, weighted):
    inner, grid = federation(spec, weighted_by="num-examples" if weighted else None)
    result = run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=ROUNDS)
    expected, transcript = simulated(spec, weighted)
    arrays = result.arrays.to_torch_state_dict()
    assert list(arrays) == list(start())
    for name, tensor in arrays.items():
        torch.testing.assert_close(tensor, expected[name].to(start()[name].dtype), atol=1e-5, rtol=1e-4)
    counts = sum(NODES.values())
    loss = sum(node * count for node, count in NODES.items()) / counts
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(loss)
    assert grid.transcript.bytes_up() == transcript.bytes_up()
    trips = len(inner.asked) / len(NODES) - weighted
    assert trips == (9 if spec.startswith("powersgd") else 3)
    assert (grid.transcript.bytes_down() > 0) == spec.startswith("powersgd")
    assert all(context.state["trained"]["times"] == ROUNDS for context in inner.contexts.values())


def test_schemes_of_equal_weights_are_carried_only_where_clients_count_alike(monkeypatch):
    from gradwire.schemes.none import PlainSGD
    from gradwire.wire import Need

    monkeypatch.setattr(PlainSGD, "needs", frozenset({Need.EQUAL_WEIGHTS}))
    with pytest.raises(GradwireError, match="updates that count alike: average plain; Flower \\(weighted_by='num-exa"):
        SchemeGrid(None, "none")
    federation("none", weighted_by=None)


@pytest.mark.parametrize("spec", [None, "none", "topk:ratio=1.0"])
def test_clients_are_weighted_as_plain_flower_weighs_them(spec):
    def move(node, round, arrays):
        return {"w": arrays["w"] + (1.0 if node == 1 else 0.0)}

    examples = {1: 10, 2: 990}
    inner = LocalGrid({node: app(spec, node, move, examples[node]) for node in examples})
    grid = inner if spec is None else SchemeGrid(inner, spec)
    result = FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord({"w": torch.zeros(3)}), num_rounds=2)
    torch.testing.assert_close(result.arrays.to_torch_state_dict()["w"], torch.full((3,), 0.02))


def test_the_mean_of_examples_is_asked_for_once_or_given():
    inner, grid = federation("none")
    run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=2)
    assert grid.examples == 20
    assert len(inner.asked) == 9
    list(grid.send_and_receive([ask(start(), 11, 3), ask(start(), 42, 3)]))
    assert grid.examples == 15
    inner, grid = federation("none", examples=50.0)
    run(FedAvg(**ALL), grid, ArrayRecord(start()), num_rounds=2)
    assert len(inner.asked) == 6
    weights = [float(m.tensors["weight"]) for m in grid.transcript.messages(0) if m.phase == "weights"]
    assert sorted(weights) == pytest.approx([0.08, 0.52, 0.6])


def test_a_client_without_examples_is_left_out():
    _inner, grid = federation("none", nodes={70: 30, 11: 0, 42: 26})
    errors = [reply for reply in grid.send_and_receive([ask(start(), n) for n in NODES]) if reply.has_error()]
    assert ["metric 'num-examples' is 0; clients are weighted by it" in e.error.reason for e in errors] == [True]
    assert grid.examples == 28


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen, self.out = nn.Linear(3, 3), nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.frozen.requires_grad_(False)


@pytest.mark.parametrize("spec", ["qsgd", "powersgd:rank=1"])
@pytest.mark.parametrize("make", [FedAvg, strategies.FedAvgM, strategies.FedAdam, strategies.FedProx])
def test_statistics_go_beside_the_scheme_and_counters_stay_counters(make, spec):
    net = Net()

    def train(node, round, arrays):
        moved = {name: t + 0.1 * node if name in ("out.weight", "norm.bias") else t for name, t in arrays.items()}
        assert arrays["norm.num_batches_tracked"].dtype == torch.int64
        return moved | {
            "norm.running_var": arrays["norm.running_var"] * 0.9 + node,
            "norm.num_batches_tracked": arrays["norm.num_batches_tracked"] + 10 * node,
        }

    nodes = {1: 30, 2: 10}
    _inner, grid = federation(spec, train=train, nodes=nodes, parameters=None, model=net)
    seen = []
    options = {"proximal_mu": 0.1} if make is strategies.FedProx else {}
    result = run(
        make(fraction_evaluate=0.0, **options),
        grid,
        ArrayRecord(net.state_dict()),
        num_rounds=3,
        evaluate_fn=lambda round, arrays: seen.append(arrays.to_torch_state_dict()),
    )
    arrays = result.arrays.to_torch_state_dict()
    for state in (arrays, *seen[1:]):
        assert {name: (t.shape, t.dtype) for name, t in state.items()} == {
            name: (t.shape, t.dtype) for name, t in net.state_dict().items()
        }
    var = torch.ones(3)
    for _ in range(3):
        var = var * 0.9 + 1.25
    torch.testing.assert_close(arrays["norm.running_var"], var)
    # 12.5 a round, rounded each time.
    assert arrays["norm.num_batches_tracked"] in (36, 37, 38)
    torch.testing.assert_close(arrays["frozen.weight"], net.frozen.weight)
    sent = {name for m in grid.transcript.messages() if m.phase == BUFFERS for name in m.tensors}
    assert sent == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    net.load_state_dict(arrays)


def test_parameters_are_decided_once_by_the_first_rounds_dtypes():
    inner, grid = federation("topk:ratio=0.5", parameters=None)
    FedAvg(**ALL).start(grid, ArrayRecord(start()), num_rounds=3)
    sizes = [grid.transcript.bytes_up("client:0", round) for round in range(3)]
    assert sizes[0] == sizes[1] == sizes[2]
    assert (grid.arrays.parameters, grid.arrays.buffers) == (["w", "b", "mean"], ["seen"])
    assert not grid.refused
    assert all(m.content["arrays"]["seen"].dtype == "int64" for m in inner.asked if "arrays" in m.content)


def test_counters_are_rounded_not_cut():
    _, grid = federation("none")
    list(grid.send_and_receive([ask(start(), node) for node in NODES]))
    seen = grid.restored(ArrayRecord(start() | {"seen": torch.tensor(4.999)})).to_torch_state_dict()["seen"]
    assert (seen, seen.dtype) == (5, torch.int64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_arrays_keep_their_dtypes(dtype):
    def train(node, round, arrays):
        return {name: t + node for name, t in arrays.items()}

    _inner, grid = federation("none", train=train, parameters=None)
    arrays = {"w": torch.zeros(4, dtype=dtype), "v": torch.zeros(2)}
    result = run(FedAvg(**ALL), grid, ArrayRecord(arrays), num_rounds=2)
    mean = sum(node * count for node, count in NODES.items()) / sum(NODES.values())
    for name, tensor in result.arrays.to_torch_state_dict().items():
        assert tensor.dtype == arrays[name].dtype
        torch.testing.assert_close(tensor.double(), torch.full_like(tensor, 2 * mean).double(), rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("FedMedian", {}),
        ("FedTrimmedAvg", {}),
        ("Krum", {}),
        ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 2}),
        ("Bulyan", {}),
        ("QFedAvg", {"client_learning_rate": 0.1}),
        ("DifferentialPrivacyServerSideFixedClipping", {"noise_multiplier": 1.0, "clipping_norm": 1.0}),
        ("DifferentialPrivacyServerSideAdaptiveClipping", {"noise_multiplier": 0.1}),
        ("DifferentialPrivacyClientSideFixedClipping", {"noise_multiplier": 1.0, "clipping_norm": 1.0}),
    ],
)
@pytest.mark.parametrize("begin", [run, lambda strategy, *rest: strategy.start(*rest)])
def test_strategies_that_look_at_single_updates_are_refused(begin, name, how):
    make = getattr(strategies, name)
    strategy = make(FedAvg(**ALL), num_sampled_clients=3, **how) if name.startswith("Diff") else make(**ALL, **how)
    inner, grid = federation("none")
    with pytest.raises(GradwireError, match=f"^strategy {name} may look at single updates"):
        begin(strategy, grid, ArrayRecord(start()), 1)
    assert not inner.asked


def test_a_strategy_of_ones_own_says_whether_a_mean_suffices():
    class Saving(FedAvg):
        def aggregate_train(self, server_round, replies):
            return super().aggregate_train(server_round, replies)

    _, grid = federation("none")
    with pytest.raises(GradwireError, match="strategy Saving may look at single updates"):
        run(Saving(**ALL), grid, ArrayRecord(start()), 1)
    Saving.mean_suffices = True
    assert run(Saving(**ALL), grid, ArrayRecord(start()), 1).arrays


def test_a_strategy_weighted_by_another_metric_is_refused():
    with pytest.raises(GradwireError, match="FedAvg is weighted by 'loss', the grid by 'num-examples'"):
        run(FedAvg(weighted_by_key="loss", **ALL), federation("none")[1], ArrayRecord(start()), 1)


def test_a_server_optimiser_gets_what_it_would_of_plain_flower():
    weights = {name: t for name, t in start().items() if name in NAMES}

    def train(node, round, arrays):
        return {name: t + 0.1 * node for name, t in arrays.items()}

    for make in (strategies.FedAdam, strategies.FedAvgM, strategies.FedYogi, strategies.FedAdagrad):
        plain = LocalGrid({node: app(None, node, train, NODES[node]) for node in NODES})
        alone = make(**ALL).start(plain, ArrayRecord(weights), num_rounds=3).arrays.to_torch_state_dict()
        _, grid = federation("none", train=train)
        through = run(make(**ALL), grid, ArrayRecord(weights), num_rounds=3).arrays.to_torch_state_dict()
        for name in NAMES:
            torch.testing.assert_close(through[name], alone[name].float(), atol=1e-5, rtol=1e-5)
