"""A domain of one's own: what one input is, how far from it a guess may be searched, and how a guess is scored."""

from dataclasses import dataclass

from torch import randn

from gradwire.errors import GradwireError
from gradwire.tasks import Domain


@dataclass(frozen=True)
class Series(Domain):
    """Time series (length,) of amplitudes in [−1, 1]."""

    name = "series"
    what = "series"
    scores = ("correlation", "nrmse")
    enough = 0.9
    length: int

    @property
    def shape(self):
        return (self.length,)

    def check(self, inputs):
        if inputs.shape[1:] != self.shape or not bool((inputs.abs() <= 1).all()):
            raise GradwireError(f"series have shape {tuple(inputs.shape)}; they must be (B, {self.length}) in [-1, 1]")

    def bounds(self):
        return -1.0, 1.0

    def sample(self, *size, random):
        return (0.3 * randn(*size, *self.shape, generator=random)).clamp(-1, 1)

    def score(self, guess, truth):
        """Pearson's correlation, and the root mean squared error over the range of the truth."""
        ours, true = (each.double() - each.double().mean(-1, keepdim=True) for each in (guess, truth))
        together = (ours * true).sum(-1) / (ours.norm(dim=-1) * true.norm(dim=-1)).clamp_min(1e-12)
        off = (guess - truth).double().square().mean(-1).sqrt() / (truth.amax(-1) - truth.amin(-1)).clamp_min(1e-12)
        return {"correlation": together.mean(1), "nrmse": off.mean(1)}
