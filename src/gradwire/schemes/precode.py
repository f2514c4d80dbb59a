"""PRECODE: a variational bottleneck between features and classifier, trained with the rest of the network.

D. Scheliga, P. Mäder, M. Seeland, "PRECODE – a generic model extension to prevent deep gradient leakage", WACV 2022.

The update is sent as it is: the gradient of a network that draws random numbers, which the client does not tell.
`known` shows how little that hides; where the first layer is linear, so do M. Balunović et al., "Bayesian framework for
gradient leakage", ICLR 2022 (`attacks.inversion.analytic`).
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError, check_counts, not_negative
from gradwire.models.bottleneck import VariationalBottleneck
from gradwire.schemes.layout import Update
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Observation
from gradwire.schemes.scheme import OwnNetwork
from gradwire.seeds import number
from gradwire.wire import Need


@dataclass(frozen=True)
class Precode(PlainSGD, OwnNetwork):
    """Send the update of a network with a bottleneck before its last linear layer.

    Attributes:
        bottleneck: the width of the code. D features become its mean and log-variance, and the code becomes D features
            again. The ratios in table VII of "Learned model compression" are those of 256.
        beta: the weight of the code's divergence from N(0, 1) in the loss.
    """

    name: ClassVar[str] = "precode"
    needs = frozenset({Need.OWN_NETWORK})

    bottleneck: int = 256
    beta: float = 1e-3

    def __post_init__(self) -> None:
        check_counts(self.name, self, "bottleneck")
        not_negative(self.name, self, "beta")

    def adapt(self, model: nn.Module, seed: int) -> nn.Module:
        """A copy of the network with a bottleneck between the features and the last linear layer.

        Raises:
            GradwireError: the network has no linear layer, or is one.
        """
        if found(model) is not None:
            return model
        linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear) and name]
        if not linear:
            raise GradwireError(f"precode needs a linear layer after features; {type(model).__name__} has none")
        name, head = linear[-1]
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed every accelerator's generator, which nothing sets back.
            torch.default_generator.manual_seed(number("precode", seed))
            inserted = VariationalBottleneck(head.in_features, self.bottleneck, self.beta)
        inserted = inserted.to(head.weight.device, head.weight.dtype)
        adapted = copy.deepcopy(model)
        pair = OrderedDict(bottleneck=inserted, classifier=adapted.get_submodule(name))
        adapted.set_submodule(name, nn.Sequential(pair))
        return adapted

    def known(self, model: nn.Module, observation: Observation, batch: int) -> nn.Module:
        """The network with the noise that one image's gradient gives away.

        A linear layer's gradient is ∂W = δ·xᵀ and ∂b = δ, so its input is a row of ∂W over an entry of ∂b (Geiping et
        al. 2020, proposition 3.1). The bottleneck's two layers give the features, hence μ and σ, and the code z: the
        noise is (z − μ)/σ. A batch does not give it away, and the network goes on drawing.
        """
        where = found(model)
        if where is None or batch > 1:
            return model
        update = self.decode(observation)
        features, code = (_input(update, f"{where}.{layer}") for layer in ("encode", "decode"))
        if features is None or code is None:
            return model
        informed = copy.deepcopy(model)
        bottleneck = informed.get_submodule(where)
        assert isinstance(bottleneck, VariationalBottleneck)
        with torch.no_grad():
            like = bottleneck.encode.weight
            mean, log_variance = bottleneck.encode(features.to(like)).chunk(2)
            bottleneck.hold((code.to(like) - mean) / (log_variance / 2).exp())
        return informed


def found(model: nn.Module) -> str | None:
    """The name of a network's bottleneck; None where it has none."""
    return next((name for name, module in model.named_modules() if isinstance(module, VariationalBottleneck)), None)


def _input(update: Update, layer: str) -> Tensor | None:
    """What a linear layer saw of one image; None where the update does not tell."""
    weight, bias = update[f"{layer}.weight"].double(), update[f"{layer}.bias"].double()
    row = bias.abs().argmax()
    return None if bias[row] == 0 else weight[row] / bias[row]
