"""Sixteen-bit payloads: two bytes an entry, cells that hold every gradient, means that do not overflow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.schemes import Layout, Observation, Round, parse
from gradwire.schemes.gradients import Full
from gradwire.testing import check_scheme
from tests.schemes.rounds import Cluster, random_update

SPECS = ("half", "half:dtype=fp16")
SHAPE = {"w": (400,)}


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_a_scheme(spec):
    check_scheme(spec)


def sent(spec, update):
    round = Round(0, ("client:0",), 0, Layout.of(update))
    return next(parse(spec).client(update, {}, {}, round)), round


@pytest.mark.parametrize("spec", SPECS)
@given(seed=st.integers(0, 1000), power=st.integers(-30, 4))
def test_a_gradient_lies_in_its_cells_and_one_beyond_them_does_not(spec, seed, power):
    update = {name: tensor * 2.0**power for name, tensor in random_update(seed, SHAPE).items()}
    send, round = sent(spec, update)
    ((term,),) = parse(spec).measure(Observation({"update": send.tensors}, {}, {}, round)).values()
    assert float(term.violation(Full(update["w"][None]))) == 0
    assert float(term.violation(Full(update["w"][None] + 3 * term.width))) > 0


def test_an_entry_takes_two_bytes():
    update = random_update(0, SHAPE)
    (whole, _), (half, _) = (sent(spec, update) for spec in ("none", "half"))
    assert half.tensors["dense"].nbytes == 2 * 400 == whole.tensors["dense"].nbytes / 2


@given(clients=st.integers(2, 6))
def test_a_mean_of_large_numbers_does_not_overflow(clients):
    updates = [{"w": torch.full((3,), 6e4)}] * clients
    aggregate, _ = Cluster.of("half:dtype=fp16", updates).run(updates)
    torch.testing.assert_close(aggregate["w"], torch.full((3,), 6e4), rtol=1e-3, atol=0)
