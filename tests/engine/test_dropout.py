import pytest
import torch
from torch import nn

from gradwire.engine import Networks, stack
from gradwire.engine.layered import StackedDropout as Dropout
from tests.tasks import of


def generators(*seeds):
    return tuple(torch.Generator().manual_seed(seed) for seed in seeds)


@pytest.mark.parametrize("chance", [0.1, 0.25, 0.5, 0.9])
def test_as_many_are_dropped_as_was_asked_for_and_the_mean_stays(chance):
    seen = Dropout(nn.Dropout(chance))(torch.ones(2, 100_001), generators(0, 1))
    assert float((seen == 0).double().mean()) == pytest.approx(chance, abs=0.01)
    assert seen.unique().tolist() == pytest.approx([0, 1 / (1 - chance)])
    assert float((seen[0] * seen[1] == 0).double().mean()) == pytest.approx(1 - (1 - chance) ** 2, abs=0.01)


def test_what_a_network_draws_does_not_depend_on_its_company():
    layer, ones = Dropout(nn.Dropout(0.5)), torch.ones(3, 4, 7)
    together, alone = layer(ones, generators(5, 6, 7)), layer(ones[:1], generators(6))
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[2])


@pytest.mark.parametrize(("chance", "due"), [(0.0, 1.0), (1.0, 0.0)])
def test_none_and_all(chance, due):
    assert torch.equal(Dropout(nn.Dropout(chance))(torch.ones(1, 5), generators(0)), torch.full((1, 5), due))


def test_an_evaluating_network_drops_nothing():
    ones = torch.ones(1, 5)
    assert torch.equal(Dropout(nn.Dropout(0.5).eval())(ones, generators(0)), ones)


@pytest.mark.parametrize("path", ["layered", "rowwise"])
def test_networks_with_generators_leave_the_global_one_as_it_was(path):
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
    engine, before = stack(model, of((1, 4, 4)), path=path), torch.get_rng_state()
    repeated = Networks.repeat(model, 2)
    networks = Networks(repeated.parameters, repeated.buffers, draws=generators(0, 1))
    losses = engine.slopes(networks, torch.ones(2, 3, 1, 4, 4), torch.zeros(2, 3, dtype=torch.int64)).losses
    assert losses[0] != losses[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert engine.draws_apart


class Noisy(nn.Module):
    """Draws from the global generator."""

    def forward(self, x):
        return x + torch.randn_like(x)


def test_a_layer_that_may_draw_is_seen():
    assert not stack(nn.Sequential(Noisy(), nn.Flatten(), nn.Linear(16, 4)), of((1, 4, 4)), path="rowwise").draws_apart
