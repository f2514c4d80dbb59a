import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.schemes import SCHEMES, Layout, parse
from gradwire.schemes.dgc import DGC
from gradwire.schemes.noise import Noise
from gradwire.schemes.powersgd import PowerSGD
from gradwire.schemes.qsgd import QSGD
from gradwire.schemes.randomk import RandomK
from gradwire.schemes.signsgd import SignSGD
from gradwire.schemes.sparsify import Sparsify
from gradwire.schemes.topk import TopK

schemes = st.one_of(
    st.builds(PowerSGD, rank=st.integers(1, 99), error_feedback=st.booleans(), warm_start=st.booleans()),
    st.builds(DGC, clip=st.none() | st.floats(1e-3, 10), warmup_epochs=st.integers(0, 9)),
    st.builds(QSGD, bits=st.integers(2, 8), bucket=st.integers(1, 4096)),
    st.builds(RandomK, match_rank=st.integers(1, 99), per=st.sampled_from(["tensor", "model"])),
    st.builds(SignSGD, error_feedback=st.booleans()),
    st.builds(Noise, std=st.floats(1e-6, 1e3)),
    st.builds(Sparsify, drop=st.floats(0, 0.999)),
    st.builds(TopK, ratio=st.floats(1e-4, 1), per=st.sampled_from(["tensor", "model"]), error_feedback=st.booleans()),
)


@given(schemes)
def test_a_spec_reads_back(scheme):
    assert parse(scheme.spec) == scheme


def test_a_large_number_has_no_plus_in_it():
    assert parse("sga:max=1e16").spec == "sga:max=1e16"


def test_the_shortest_spec():
    assert parse("powersgd:rank=1,warm_start=true").spec == "powersgd"
    assert parse("topk:ratio=0.01").spec == "topk:ratio=0.01"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "powersdg",
            "unknown scheme 'powersdg'; known: none, topk, randomk, powersgd, dgc, qsgd, signsgd, half, noise, "
            "sparsify, dpsgd, dpftrl, dpfedavg, autoencoder, precode, sga, ssga",
        ),
        ("powersgd:ranks=2", "cannot read 'ranks=2'; powersgd takes rank, error_feedback, warm_start, as key=value"),
        ("none:x=1", "none takes no parameters"),
        ("powersgd:rank", "cannot read 'rank'"),
        ("powersgd:warm_start=yes", "it must be true or false"),
        ("topk:ratio=much", "it must be a number"),
    ],
)
def test_what_cannot_be_read_is_named(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)


def test_names_are_their_own():
    assert all(name == scheme.name for name, scheme in SCHEMES.items())


def test_layout_flattens_and_back():
    update = {"a": torch.randn(2, 3), "b": torch.randn(4), "c": torch.randn(1, 2, 2)}
    layout = Layout.of(update)
    assert layout.offsets == {"a": 0, "b": 6, "c": 10}
    again = layout.unflatten(layout.flatten(update))
    assert all(torch.equal(again[name], update[name]) for name in update)


def test_layout_refuses_what_is_not_finite_or_of_another_shape():
    layout = Layout({"a": (2,)})
    with pytest.raises(GradwireError, match="gradient of 'a' is not finite in 1 of 2 entries"):
        layout.check({"a": torch.tensor([1.0, float("nan")])})
    with pytest.raises(GradwireError, match=r"update has 'a' of shape \(3,\)"):
        layout.check({"a": torch.zeros(3)})
    with pytest.raises(GradwireError, match="update has 'b' of shape"):
        layout.check({"a": torch.zeros(2), "b": torch.zeros(1)})
