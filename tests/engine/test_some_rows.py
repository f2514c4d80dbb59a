"""Some rows of a gradient are those of the whole one, in whatever form an engine has it."""

import pytest
import torch

from gradwire.engine.factored import Factored
from gradwire.engine.lookup import LookedUp, Summed
from gradwire.schemes.gradients import Full, Mean

random = torch.Generator().manual_seed(0)
LOOKED_UP = LookedUp(torch.randint(7, (4, 5), generator=random), torch.randn(4, 5, 3, generator=random), (7, 3))
PRODUCT = Factored(torch.randn(4, 7, 5, generator=random), torch.randn(4, 3, 5, generator=random), (7, 3))
FORMS = [
    Full(torch.randn(4, 7, 3, generator=random)),
    LOOKED_UP,
    PRODUCT,
    Summed([LOOKED_UP, PRODUCT]),
    Mean(LOOKED_UP, 2),
]


@pytest.mark.parametrize("gradient", FORMS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("kept", [[], [2], [5, 0, 6]], ids=str)
def test_some_rows_are_those_of_the_whole(gradient, kept):
    kept = torch.tensor(kept, dtype=torch.int64)
    assert torch.allclose(gradient.some(kept), gradient.full()[:, kept], atol=1e-6)
