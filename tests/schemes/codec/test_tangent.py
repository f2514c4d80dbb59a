import torch
from torch.func import jacrev

from gradwire.schemes.codec import network
from gradwire.schemes.codec.initial import drawn
from gradwire.schemes.codec.layers import Tangent
from gradwire.schemes.gradients import Full


def test_the_tangent_term_is_the_decoders_derivative_transposed_and_zero_where_no_code_would_fit_better():
    random = torch.Generator().manual_seed(0)
    weights, code = drawn("decode", random), torch.randn(network.code_size(24), generator=random)
    jacobian = jacrev(lambda z: network.decode(weights, z, 24))(code)
    gradient = torch.randn(4, 6, generator=random)
    term = Tangent(torch.zeros(1, len(code)), code[None], weights[None])
    torch.testing.assert_close(term.apply(Full(gradient[None]))[0], jacobian.mT @ gradient.flatten())
    rest = gradient.flatten() - jacobian @ torch.linalg.lstsq(jacobian, gradient.flatten()[:, None]).solution[:, 0]
    assert float(term.apply(Full(rest.view(1, 4, 6))).norm()) < 1e-4 * float(rest.norm())
