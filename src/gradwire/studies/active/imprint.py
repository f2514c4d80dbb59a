"""Imprint modules: a layer that the server puts before the model, and whose gradients hold single inputs.

J. C. Zhao et al., "LOKI: large-scale data reconstruction attack against federated learning through model
manipulation", S&P 2024, and "The resource problem of using linear layer leakage attack in federated learning"; the
layer itself is that of L. Fowl et al., "Robbing the fed", ICLR 2022: row i of it answers to inputs brighter than the
i-th bound, so that the difference of two rows' gradients is a sum of the inputs between two bounds. Of a sum over
clients it gives every input that is alone between its bounds, whoever holds it; LOKI has all clients but the victim get
a layer that answers to nothing.
"""

import torch
from torch import Tensor, nn

from gradwire.schemes import Layout
from gradwire.studies.active.lies import Gain
from gradwire.studies.active.scene import VICTIM, Scene, play

ROWS = 256


class Imprint(nn.Module):
    """The model behind an imprint layer of `ROWS` rows, which changes its inputs by next to nothing."""

    def __init__(self, model: nn.Module, size: int, answers: bool = True):
        super().__init__()
        bounds = torch.linspace(0, 1, ROWS) if answers else torch.full((ROWS,), 1e6)
        self.imprint, self.back, self.model = nn.Linear(size, ROWS), nn.Linear(ROWS, size, bias=False), model
        with torch.no_grad():
            self.imprint.weight.fill_(1 / size)
            self.imprint.bias.copy_(-bounds)
            self.back.weight.fill_(1e-3)

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's output."""
        added = self.back(self.imprint(inputs.flatten(1)).relu())
        return self.model(inputs + added.view_as(inputs))


def imprint(scene: Scene) -> Gain:
    """Put an imprint layer before everybody's model (Robbing the Fed)."""
    return _read(scene, everybody=True)


def loki(scene: Scene) -> Gain:
    """Put an imprint layer before everybody's model that answers to the victim's inputs alone."""
    return _read(scene, everybody=False)


def _read(scene: Scene, everybody: bool) -> Gain:
    """The difference of rows that is most like an input of the victim's, and that input (the scorer's choice)."""
    inputs = scene.batches[0][0].flatten(1)
    size = inputs.shape[1]
    given = {p: Imprint(scene.model, size, everybody or p == VICTIM).eval() for p in scene.parties}
    played = play(scene, models=given)
    if played.sum is None:
        return Gain(None, inputs[0], tuple(played.refusals))
    rows = Layout.of_model(given[VICTIM]).unflatten(played.sum)["imprint.weight"]
    pieces = rows[:-1] - rows[1:]
    likeness = torch.corrcoef(torch.cat([inputs, pieces]).double()).nan_to_num()[: len(inputs), len(inputs) :].abs()
    which, piece = divmod(int(likeness.argmax()), len(pieces))
    sign = torch.sign(pieces[piece] @ (inputs[which] - inputs[which].mean()))
    return Gain(sign * pieces[piece], inputs[which], tuple(played.refusals))
