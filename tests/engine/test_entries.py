import pytest
import torch

from gradwire.engine.factored import MANY, SPARSE, Factored


@pytest.mark.parametrize("positions", [1, 5, MANY, 3 * MANY])
@pytest.mark.parametrize("formed", [True, False])
def test_few_entries_are_gathered_and_many_are_taken_of_the_gradient(positions, formed):
    random, n, m = torch.Generator().manual_seed(0), 40, 20
    delta, inputs = (torch.randn(3, size, positions, generator=random, dtype=torch.float64) for size in (n, m))
    most = n * m // (SPARSE * min(positions, MANY))
    indices = torch.randint(n * m, (3, most + formed), generator=random)
    gradient = Factored(delta, inputs, (n, m))
    found = gradient.entries(indices)
    assert ("matrix" in vars(gradient)) == formed
    torch.testing.assert_close(found, (delta @ inputs.mT).flatten(1).gather(1, indices))
