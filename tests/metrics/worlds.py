"""Worlds in which the truth about a membership attack is known."""

import os

import numpy as np
import torch
from scipy.integrate import quad
from scipy.stats import norm

from gradwire.metrics import Scored

RUNS = float(os.environ.get("GRADWIRE_RUNS", "0.3"))
"""The simulations' runs, as a multiple of what they are written with: fewer, where nobody needs their figures."""


class World:
    """Scores sd·(example) + between·(model) + max(0, lift + varies·(example))·(member) + noise, all normal."""

    def __init__(self, models=20, examples=800, sd=2.0, between=0.0, lift=0.0, varies=0.0):
        self.models, self.examples, self.sd, self.between = models, examples, sd, between
        self.lift, self.varies = lift, varies
        self.spread = float(np.sqrt(sd**2 + between**2 + 1))

    def draw(self, random: np.random.Generator) -> Scored:
        """An experiment: new examples, new models, half of the examples in each."""
        shape = (self.models, self.examples)
        members = random.permuted(np.broadcast_to(np.arange(self.examples) % 2 == 0, shape), axis=1)
        gain = np.maximum(0, self.lift + self.varies * random.standard_normal(self.examples))
        scores = self.sd * random.standard_normal(self.examples) + gain * members
        scores = scores + self.between * random.standard_normal((self.models, 1)) + random.standard_normal(shape)
        return Scored.of(torch.from_numpy(scores), torch.from_numpy(members), limits=1.0)

    def expected(self, function) -> float:
        """The mean of a function of a member's gain."""
        if not self.varies:
            return float(function(max(0.0, self.lift)))
        density = norm(self.lift, self.varies)
        above = quad(lambda gain: function(gain) * density.pdf(gain), 0, self.lift + 9 * self.varies)[0]
        return float(density.cdf(0) * function(0.0) + above)

    def tpr(self, threshold: float) -> float:
        """The share of members that score above a threshold."""
        return self.expected(lambda gain: norm.sf((threshold - gain) / self.spread))

    def truth(self) -> dict[str, float]:
        """Every figure, of infinitely many examples and models."""
        at = {f"{rate:g}": self.tpr(self.spread * norm.isf(rate)) for rate in (1e-2, 1e-3)}
        accuracy = (self.tpr(1.0) + norm.cdf(1 / self.spread)) / 2
        area = self.expected(lambda gain: norm.cdf(gain / (self.spread * np.sqrt(2))))
        return {"accuracy": accuracy, "auc": area, **at}
