import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradwire
from gradwire import models
from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Round, StackedMeasurement, observation, parse
from gradwire.schemes.gradients import Full
from gradwire.schemes.selection import largest
from gradwire.secure import double_mask, double_mask_server, masks, pairwise
from gradwire.wire import SERVER, InProcess, drop_out
from gradwire.wire.transport import drive
from tests.schemes.rounds import Cluster, flat, random_update
from tests.secure.sums import least

SECURE = ("sga", "ssga:compression=20", "ssga-dgc:compression=20")
variants = st.sampled_from(
    ["", "max=9.0", "rounding=stochastic", "curve=brainpoolP256r1", "threshold=T", "threshold=T,neighbours=few"]
)


def spec_of(name, variant, clients, **more):
    variant = variant.replace("T", str(least(clients)))
    parts = [*(f"{k}={v}" for k, v in more.items()), *([variant] if variant else [])]
    return f"{name}:{','.join(parts)}" if parts else name


def step(cluster, sightseen):
    """The distance of two codes, as a real number."""
    ring = cluster.scheme.ring(sightseen.round)
    return 2 * cluster.scheme.seen(sightseen)[1] / ring.ceiling


@given(st.integers(2, 6), st.sampled_from([8, 16, 32]), variants)
@settings(max_examples=25)
def test_sga_is_sgd_up_to_the_width_of_a_code(clients, bits, variant):
    updates = [random_update(i) for i in range(clients)]
    cluster = Cluster.of(spec_of("sga", variant, clients, bits=bits), updates)
    aggregate, seen = cluster.run(updates)
    mean = sum(map(flat, updates)) / clients
    assert (flat(aggregate) - mean).abs().max() <= step(cluster, seen) + 1e-5


@given(
    st.integers(2, 5),
    st.sampled_from(["ssga", "ssga-dgc"]),
    st.sampled_from(["topk", "random"]),
    variants | st.just("max=0.5"),
    st.booleans(),
)
@settings(max_examples=25)
def test_the_round_is_algorithm_1(clients, name, mask, variant, masking):
    """Three rounds beside a plain rendering of lines 5 to 14, with DGC's momentum factor masking or without."""
    updates = [random_update(i) for i in range(clients)]
    own = {"masking": str(masking).lower()} if name == "ssga-dgc" else {}
    cluster = Cluster.of(spec_of(name, variant, clients, compression=20, mask=mask, **own), updates)
    size = cluster.layout.size
    residual, velocity = torch.zeros(clients, size), torch.zeros(clients, size)
    for turn in range(3):
        updates = [random_update(10 * turn + i) for i in range(clients)]
        gradient = torch.stack([flat(u) for u in updates])
        velocity = 0.9 * velocity + gradient
        residual = residual + (velocity if name == "ssga-dgc" else gradient)
        aggregate, seen = cluster.run(updates)
        union, maximum = cluster.scheme.agreed(seen.replies.get("offer", {}), seen.round)
        if mask == "topk":
            share = size // 20 // clients
            assert torch.equal(union, torch.cat([largest(r, share) for r in residual]).unique())
            assert len(union) <= size // 20
        else:
            assert len(union) == size // 20 // clients * clients
        expected = torch.zeros(size)
        expected[union] = residual[:, union].clamp(-maximum, maximum).mean(0)
        assert (flat(aggregate) - expected).abs().max() <= step(cluster, seen) + 1e-5
        residual[:, union] = 0
        if own and masking:
            velocity[:, union] = 0
        for r, state in zip(residual, cluster.private.values(), strict=True):
            torch.testing.assert_close(state["residual"], r)


@given(st.integers(2, 5), st.sampled_from(["", "threshold=T"]), st.booleans())
@settings(max_examples=20)
def test_the_anonymous_union_is_the_union_but_for_marks_that_cancel(clients, variant, adaptive):
    updates = [random_update(i) for i in range(clients)]
    maximum = "adaptive" if adaptive else 9.0
    spec = spec_of("ssga", variant, clients, compression=4, union="anonymous", max=maximum)
    cluster = Cluster.of(spec, updates)
    aggregate, seen = cluster.run(updates)
    share = cluster.layout.size // 4 // clients
    chosen = [largest(flat(u), share) for u in updates]
    sent = flat(aggregate).nonzero()[:, 0]
    assert set(sent.tolist()) <= set(torch.cat(chosen).tolist())
    alone = torch.cat(chosen).unique(return_counts=True)
    assert set(alone[0][alone[1] == 1].tolist()) <= set(sent.tolist())
    mean = sum(map(flat, updates)) / clients
    assert (flat(aggregate) - mean)[sent].abs().max() < 1e-4
    assert torch.equal(flat(cluster.scheme.decode(seen)), flat(aggregate))
    told = {name for tensors in seen.uploads.values() for name in tensors}
    assert "indices" not in told


@given(st.integers(2, 5), st.integers(2, 4), st.sampled_from(["", "threshold=T"]))
@settings(max_examples=20)
def test_with_anonymity_m_just_those_entries_are_sent_that_m_clients_chose(clients, m, variant):
    updates = [random_update(i) for i in range(clients)]
    updates = [{name: t + u[name] for name, t in random_update(99).items()} for u in updates]
    spec = spec_of("ssga", variant, clients, compression=4, union="anonymous", anonymity=m, colluders=0)
    cluster = Cluster.of(spec, updates)
    aggregate, seen = cluster.run(updates)
    share = cluster.layout.size // 4 // clients
    chosen, votes = torch.cat([largest(flat(u), share) for u in updates]).unique(return_counts=True)
    assert torch.equal(cluster.scheme.observed(seen).indices, chosen[votes >= m])
    mean = sum(map(flat, updates)) / clients
    sent = flat(aggregate)
    assert (sent - torch.where(sent != 0, mean, 0.0)).abs().max() < 1e-4


def test_without_residual_nothing_is_carried_over():
    updates = [random_update(i) for i in range(2)]
    cluster = Cluster.of("ssga:compression=20,residual=false", updates)
    first, _ = cluster.run(updates)
    second, _ = cluster.run(updates)
    torch.testing.assert_close(flat(first), flat(second))
    assert "residual" not in cluster.private["client:0"]


@pytest.mark.parametrize("spec", SECURE)
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_zeros_and_extremes(spec, value):
    """A zero vector, one client all extremes: nothing is biased, nothing wraps."""
    quiet = {name: torch.zeros_like(t) for name, t in random_update(0).items()}
    loud = {name: torch.full_like(t, value) for name, t in quiet.items()}
    updates = [loud, quiet, quiet, quiet]
    for bits in (8, 16, 32):
        name, _, rest = spec.partition(":")
        cluster = Cluster.of(f"{name}:bits={bits}" + (f",{rest}" if rest else ""), updates)
        aggregate, seen = cluster.run(updates)
        sent = flat(aggregate)
        expected = torch.where(sent != 0, value / 4, 0.0)
        assert (sent - expected).abs().max() <= 1.01 * step(cluster, seen) / 4
        if value == 0.0:
            assert (sent == 0).all()


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_numbers_take_just_so_many_bits_on_the_wire(bits):
    size = {"w": (400, 250)}
    updates = [random_update(i, size) for i in range(2)]
    cluster = Cluster.of(f"sga:bits={bits}", updates)
    cluster.run(updates)
    cluster.run(updates)
    assert cluster.bytes_up == pytest.approx(100_000 * bits / 8, rel=0.01)


def test_ssga_costs_in_proportion_to_what_it_sends():
    size = {"w": (400, 2500)}
    updates = [random_update(i, size) for i in range(4)]
    cost = {}
    for compression in (100, 200):
        cluster = Cluster.of(f"ssga:compression={compression}", updates)
        cluster.run(updates)
        cluster.run(updates)
        cost[compression] = cluster.bytes_up
    assert cost[200] < 0.6 * cost[100]
    assert cost[200] < 1.5 * 4 * 1_000_000 / 200 + 1000


@pytest.mark.parametrize("variant", ["", ",threshold=2,colluders=0"])
def test_masks_are_expanded_for_the_entries_of_the_union_alone(monkeypatch, variant):
    masked, real = [], masks.blend
    for module in (pairwise, double_mask, double_mask_server):
        monkeypatch.setattr(module, "blend", lambda codes, known: (masked.append(len(codes)), real(codes, known)))
    updates = [random_update(i) for i in range(3)]
    cluster = Cluster.of("ssga:compression=20" + variant, updates)
    _, seen = cluster.run(updates)
    union, _ = cluster.scheme.agreed(seen.replies["offer"], seen.round)
    assert len(masked) == 3 + bool(variant)
    assert set(masked) == {len(union)}


def test_no_secret_comes_from_the_seed_of_a_run():
    """Two runs of one seed differ in every key and every mask; what they add up to is the same."""
    updates = [random_update(i) for i in range(2)]
    runs = [Cluster.of("sga", updates) for _ in range(2)]
    (first, seen), (second, again) = (run.run(updates) for run in runs)
    assert torch.equal(flat(first), flat(second))
    for phase, name in (("keys", "keys"), ("keys", "signature"), ("masked", "masked")):
        assert not torch.equal(seen.uploads[phase][name], again.uploads[phase][name])
    assert not torch.equal(*(run.private["client:0"]["identity"] for run in runs))


@pytest.mark.parametrize("spec", SECURE)
def test_the_server_sees_the_mean_of_all_and_the_measurement_fits_it(spec):
    model = models.build("lenet", (1, 8, 8), 10, seed=0)
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand(2, 1, 8, 8, generator=generator), torch.tensor([i, 9 - i])) for i in range(3)]
    view = gradwire.capture(model, *batches[0], scheme=spec, fellows=batches[1:])
    scheme, seen = observation(view)
    assert scheme.sums_only
    mean = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for inputs, labels in batches:
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        for (name, _), g in zip(model.named_parameters(), torch.autograd.grad(loss, model.parameters()), strict=True):
            mean[name] += g / 3
    stack = StackedMeasurement.of([scheme.measure(seen)], torch.zeros(1))
    inner, square = stack.moments({name: Full(tensor[None]) for name, tensor in mean.items()})
    torch.testing.assert_close(inner, stack.energy, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(square, stack.energy, rtol=1e-3, atol=1e-6)


def test_no_message_of_a_client_holds_its_update():
    """What a client sends beside the masked vector does not depend on its values, but for R_max and the indices."""
    updates = [random_update(i) for i in range(3)]
    cluster = Cluster.of("ssga:compression=20,mask=random,max=5.0", updates)
    _, seen = cluster.run(updates)
    assert set(seen.uploads) == {"keys", "masked"}
    cluster = Cluster.of("ssga:compression=20", updates)
    _, seen = cluster.run(updates)
    assert set(seen.uploads["offer"]) == {"indices", "maximum"}


def play_with(spec, updates, drops):
    cluster = Cluster.of(spec, updates)
    context = Round(0, tuple(cluster.private), 0, cluster.layout)
    halves = {
        party: cluster.scheme.client(update, cluster.private[party], {}, context)
        for party, update in zip(cluster.private, updates, strict=True)
    }
    halves |= {party: drop_out(halves[party], phase) for party, phase in drops.items()}
    transport = InProcess()
    _, served = drive(transport, halves, cluster.scheme.server({}, context), 0)
    return served, transport


phases = st.sampled_from(["keys", "shares", "offer", "masked"])


@given(st.sampled_from(SECURE), st.dictionaries(st.integers(0, 4), phases))
@settings(max_examples=30)
def test_with_a_threshold_the_mean_of_the_survivors_is_what_comes_out(spec, gone):
    updates = [random_update(i) for i in range(5)]
    spec += f"{',' if ':' in spec else ':'}threshold=3,colluders=0"
    drops = {f"client:{i}": phase for i, phase in gone.items()}
    if len(gone) > 2:
        with pytest.raises(WireError, match=r"clients are left, threshold is 3|every client has dropped out"):
            play_with(spec, updates, drops)
        return
    served, _ = play_with(spec, updates, drops)
    mean = sum(flat(u) for i, u in enumerate(updates) if i not in gone) / (5 - len(gone))
    sent = flat(served.aggregate)
    assert (sent - torch.where(sent != 0, mean, 0.0)).abs().max() < 1e-4


def test_without_a_threshold_a_dropout_ends_the_round_and_no_sum_is_released():
    updates = [random_update(i) for i in range(3)]
    with pytest.raises(WireError, match="round 0, phase 'masked', client:1: is missing"):
        play_with("sga", updates, {"client:1": "masked"})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sga:bits=12", "sga: bits is 12; it must be one of 8, 16, 32"),
        ("sga:max=0", "sga: max is 0.0; it must be adaptive, largest or a positive number"),
        ("sga:max=large", "max is 'large'; it must be adaptive or largest or a number"),
        ("sga:threshold=1", "sga: threshold is 1; it must be at least 2"),
        ("sga:curve=p256", "it must be one of x25519, brainpoolP256r1"),
        ("ssga:compression=0.5", "ssga: compression is 0.5; it must be at least 1"),
        ("ssga:compression=nan", "ssga: compression is nan; it must be finite"),
        ("ssga:anonymity=0", "ssga: anonymity is 0; it must be at least 1"),
        ("ssga:anonymity=2", "ssga: anonymity is 2; it needs union=anonymous and mask=topk"),
        ("ssga:union=anonymous,anonymity=2", "anonymity is 2; a client that sides with the server tells it all votes"),
        ("ssga-dgc:momentum=1", r"ssga-dgc: momentum is 1.0; it must be in \[0, 1\)"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)


def test_rounds_that_cannot_be():
    two = [random_update(0), random_update(1)]
    with pytest.raises(GradwireError, match="a secure sum needs at least 2 clients; round 0 has 1"):
        Cluster.of("ssga", two[:1]).run(two[:1])
    with pytest.raises(GradwireError, match="compression is 400, which leaves K = 1 of 472 entries, fewer than the 2"):
        Cluster.of("ssga:compression=400", two).run(two)


def test_a_fellow_client_sees_the_sum():
    model = models.build("mlp", (1, 8, 8), 10, seed=0)
    batch = (torch.rand(1, 1, 8, 8), torch.tensor([3]))
    view = gradwire.capture(model, *batch, scheme="sga", fellows=[batch], adversary="client")
    scheme, seen = observation(view)
    assert set(scheme.decode(seen)) == {name for name, _ in model.named_parameters()}
    assert all(m.sender in ("client:1", SERVER) for m in view.messages)
