"""What a federation's arrays are: which go through the scheme, which beside it, and of which dtypes they stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord
from flwr.app import Message as FlowerMessage
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.integrations.flower import records
from gradwire.schemes import Layout


@dataclass
class FederatedArrays:
    """The arrays of a run. What is not named is decided by the first round's, and stays.

    Attributes:
        parameters: names of those that go through the scheme; `buffers`, of those that are averaged beside it.
        like: tensors without values, of the shapes and dtypes of the first round.
        means: running statistics as the last round left them, where a server's optimiser may move them.
    """

    parameters: list[str] | None = None
    buffers: list[str] | None = None
    like: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module | None, parameters: Sequence[str] | None) -> "FederatedArrays":
        """Those of a model, or with the named parameters."""
        if model is None:
            return cls(None if parameters is None else list(parameters))
        trained = model.named_parameters(remove_duplicate=False)
        named = [name for name, parameter in trained if parameter.requires_grad]
        return cls(named, [name for name, _ in model.named_buffers(remove_duplicate=False)])

    def restored(self, arrays: ArrayRecord) -> ArrayRecord:
        """Arrays as a strategy's mean left them, in the dtypes of the first round; counters as whole numbers."""
        tensors = dict(arrays.to_torch_state_dict())
        for name, like in self.like.items():
            if name in tensors and tensors[name].shape == like.shape:
                tensor = self.means[name] if name in self.means else tensors[name]
                whole = tensor.is_floating_point() and not like.is_floating_point()
                tensors[name] = (tensor.round() if whole else tensor).to(like.dtype)
        return ArrayRecord(torch_state_dict=tensors)

    def sent(self, messages: Sequence[FlowerMessage], where: str) -> tuple[str, ArrayRecord]:
        """The one model that a strategy sends all clients, in its own dtypes, and its key.

        Args:
            where: the round, for errors.

        Raises:
            GradwireError: several models, or one of another layout than before.
        """
        key, sent = records.arrays_of(messages[0].content)
        others = (records.arrays_of(message.content)[1] for message in messages[1:])
        if any(other is not sent and other != sent for other in others):
            raise GradwireError(f"{where}: the strategy sends clients different arrays; a scheme needs one")
        if not self.like:
            self._decide(dict(sent.to_torch_state_dict()))
        arrays = self.restored(sent)
        records.check_arrays(dict(arrays.to_torch_state_dict()), self.like, "the strategy's")
        return key, arrays

    def _decide(self, tensors: Mapping[str, Tensor]) -> None:
        """By the first round's arrays, what is what."""
        if self.parameters is None:
            self.parameters = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        chosen = records.pick(tensors, self.parameters)
        if not chosen:
            raise GradwireError(f"none of the arrays {', '.join(tensors)} is a parameter; a scheme needs one")
        Layout.of(chosen).check(chosen)
        self.parameters = [name for name in tensors if name in chosen]
        # A model's buffers may stay out of its state dict; without a model all that is no parameter is a buffer.
        buffers = [name for name in tensors if name not in chosen] if self.buffers is None else self.buffers
        self.buffers = [name for name in buffers if name in tensors]
        for name in self.buffers:
            if tensors[name].is_complex():
                raise GradwireError(f"array {name!r} is complex; its mean over clients is not defined here")
        self.like = {name: tensor.to("meta") for name, tensor in tensors.items()}
