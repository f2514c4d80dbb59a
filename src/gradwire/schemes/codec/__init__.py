"""What `autoencoder` compresses tensors with: the network of the paper's tables I and II, and a model's way through it.

From the ground: `banded` layers, the `network` that they make, its `initial` weights, how a model's `layers` go
through it, its `training`, what a server reads out of `messages`, and the `tangent` that an adversary can fit.
"""
