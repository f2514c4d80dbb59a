"""TernGrad (Wen et al., NeurIPS 2017, eq. 1): an entry is sent as −1, 0 or 1 times the largest magnitude, at random."""

from dataclasses import dataclass

import torch

from gradwire.schemes import Outcome, Scheme
from gradwire.schemes.measurement import Signs
from gradwire.seeds import generator
from gradwire.wire import Send


@dataclass(frozen=True)
class TernGrad(Scheme):
    """Ternary gradients, whose mean is kept. Entries beyond `clip` root mean squares are cut first (section 3.2)."""

    name = "terngrad"
    clip: float = 2.5

    def private_state(self, layout, secret=0):
        return {"key": torch.tensor([secret])}

    def client(self, update, private, public, round):
        flat, random = round.layout.flatten(update), generator("terngrad", int(private["key"]), round.index)
        most = min(flat.abs().max(), self.clip * flat.square().mean().sqrt())
        signs = (flat.sign() * (torch.rand(flat.shape, generator=random) * most < flat.abs())).to(torch.int8)
        reply = yield Send("ternary", {"signs": signs, "scale": most[None]}, settled=private)
        return Outcome(round.layout.unflatten(reply["mean"]), public, private)

    def server(self, public, round):
        mean = torch.stack([sent["signs"] * sent["scale"] for sent in (yield None).values()]).mean(0)
        yield Send("ternary", {"mean": mean})
        return Outcome(round.layout.unflatten(mean), public, {})

    def decode(self, observation):
        sent = observation.uploads["ternary"]
        return observation.round.layout.unflatten(sent["signs"] * sent["scale"])

    def measure(self, observation):
        return {name: [Signs(tensor[None])] for name, tensor in self.decode(observation).items()}
