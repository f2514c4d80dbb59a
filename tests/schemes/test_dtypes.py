"""Every scheme on models of every floating-point dtype, mixed ones and empty tensors among them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.schemes import SCHEMES, Contribution, Layout, LocalStep, Round, initial_states, parse
from gradwire.wire import InProcess, client

PARAMETERS = {
    "topk": ":ratio=0.1",
    "randomk": ":ratio=0.1",
    "dgc": ":ratio=0.1",
    "noise": ":std=0.01",
    "sparsify": ":drop=0.5",
    "ssga": ":compression=10",
    "ssga-dgc": ":compression=10",
    "autoencoder": ":warmup_rounds=1,warmup_iterations=1,passes=1,segment=64",
}
SPECS = (
    *(f"{name}{PARAMETERS.get(name, '')}" for name in SCHEMES),
    "signsgd:error_feedback=true",
    "powersgd:rank=2",
    "sga:threshold=2,colluders=0",
    "ssga:compression=10,threshold=2,colluders=0",
    "ssga:compression=10,union=anonymous",
    "ssga:compression=10,union=anonymous,anonymity=2,threshold=2,colluders=0",
    "powersgd:rank=2+sga",
    "dpsgd+sga",
)
PARTIES = tuple(map(client, range(3)))
SHAPES = {"conv.weight": (6, 4, 3, 3), "conv.bias": (6,), "none": (0, 5), "head.weight": (10, 24), "head.bias": (10,)}
DTYPES = {
    "float64": dict.fromkeys(SHAPES, torch.float64),
    "mixed": {"conv.weight": torch.float64, "head.bias": torch.float64},
    "bfloat16": dict.fromkeys(SHAPES, torch.bfloat16),
    "half": {"conv.bias": torch.float16, "head.weight": torch.bfloat16},
}


def drawn(seed, dtypes):
    random = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=random).to(dtypes.get(n, torch.float32)) for n, s in SHAPES.items()}


def contribution(scheme, update, private, context):
    """What a client brings: an update, or what three steps under the scheme's hook leave."""
    hook, left = scheme.step_hook, context.start
    if hook is None:
        return Contribution(update, private)
    for index in range(3):
        step = LocalStep(context, index, 3, 2, 8, context.index)
        gradient = {n: torch.stack([g, -g / 2]) if hook.per_example else g for n, g in update.items()}
        followed, private = hook.before_step(gradient, private, step)
        left, private = hook.after_step({n: p - 0.01 * followed[n] for n, p in left.items()}, private, step)
    return Contribution({n: p - left[n] for n, p in context.start.items()}, private)


def run(spec, dtypes, rounds=2):
    """The updates of the last of some rounds, and its result."""
    scheme, start = parse(spec), drawn(99, dtypes)
    layout = Layout.of(start)
    public, private = scheme.public_state(layout), initial_states(scheme, layout, PARTIES, 0)
    for index in range(rounds):
        context = Round(index, PARTIES, 0, layout, start=start)
        updates = {party: drawn(10 * index + i, dtypes) for i, party in enumerate(PARTIES)}
        brought = {p: contribution(scheme, updates[p], private[p], context) for p in PARTIES}
        result = run_round(scheme, brought, public, context, InProcess())
        assert not result.left_out
        public, private = result.public, result.private
    return updates, result


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("spec", SPECS)
def test_aggregates_are_finite_and_of_the_dtypes_that_went_in(spec, dtypes):
    updates, result = run(spec, DTYPES[dtypes])
    for name, tensor in updates[PARTIES[0]].items():
        found = result.aggregate[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert torch.isfinite(found).all(), name


@given(dtypes=st.fixed_dictionaries({n: st.sampled_from([torch.float32, torch.float64, torch.half]) for n in SHAPES}))
def test_without_a_scheme_the_aggregate_is_the_mean(dtypes):
    updates, result = run("none", dtypes, rounds=1)
    for name, found in result.aggregate.items():
        mean = torch.stack([update[name].double() for update in updates.values()]).mean(0)
        torch.testing.assert_close(found, mean.to(found.dtype))


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.zeros(2, 3, dtype=torch.complex64), "torch.complex64"),
        (torch.zeros(2, 3).to_sparse(), "torch.sparse_coo"),
        (torch.zeros(2, 3, dtype=torch.int64), "torch.int64"),
    ],
)
def test_what_is_no_dense_tensor_of_real_numbers_is_refused_by_name(tensor, kind):
    layout = Layout({"weight": (2, 3), "bias": (2,)})
    with pytest.raises(GradwireError, match=f"update of 'weight' is of {kind}; it must be a dense tensor of real num"):
        layout.check({"weight": tensor, "bias": torch.zeros(2)})
    layout.check({"weight": torch.zeros(2, 3, dtype=torch.bfloat16), "bias": torch.zeros(2)})


def test_a_difference_lies_in_one_piece_where_it_may():
    """`vector` then needs no copy, and is what `flatten` gives; elsewhere it is a copy."""
    shapes = {"a": (3, 4), "empty": (0, 2), "b": (), "c": (5,)}
    old, new = ({name: torch.randn(shape) for name, shape in shapes.items()} for _ in range(2))
    layout = Layout.of(old)
    change = layout.difference(old, new)
    assert all(torch.equal(change[name], old[name] - new[name]) for name in shapes)
    assert layout.vector(change).data_ptr() == change["a"].data_ptr()
    for update in (change, old, {**change, "c": old["c"]}, {**change, "a": change["a"].t().contiguous().t()}):
        assert torch.equal(layout.vector(update), layout.flatten(update))
    mixed = {"a": old["a"].half(), "c": old["c"]}
    apart = Layout.of(mixed).difference(mixed, mixed)
    assert apart["a"].dtype == torch.float16
    assert torch.equal(Layout.of(mixed).vector(apart), torch.zeros(17))
