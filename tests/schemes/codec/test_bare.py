import pytest
import torch

from gradwire.schemes.codec import bare, initial, network
from gradwire.seeds import generator


@pytest.mark.parametrize("length", [1, 16, 75])
def test_it_is_what_an_autoencoder_begins_as(length):
    vector = torch.randn(length, generator=generator("test", length), dtype=torch.float64)
    autoencoder, weights = (start(generator("autoencoder")).double() for start in (initial.projection, bare.start))
    encoder, decoder = bare.halves(weights)
    code = bare.encode(encoder, vector)
    made = bare.decode(decoder, code, length)
    assert len(code) == network.code_size(length)
    torch.testing.assert_close(made, network.rebuilt(autoencoder, vector), atol=1e-5, rtol=0)
    again = bare.decode(decoder, bare.encode(encoder, torch.nn.functional.pad(made, (0, -length % 16))), length)
    assert length % 16 or torch.allclose(again, made, atol=1e-6)
