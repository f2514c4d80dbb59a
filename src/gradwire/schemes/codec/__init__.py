"""The scheme `autoencoder`'s network, from `banded` layers to a whole model's `layers`."""
