"""What a federation's arrays are: which go through the scheme, which beside it, and of which dtypes they stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from flwr.app import ArrayRecord
from flwr.app import Message as FlowerMessage
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.integrations.flower import records
from gradwire.schemes import Layout

ROUNDING = 1e-5
"""What a mean of equal numbers is off by at most, relatively."""
PART = 1 << 16
"""Entries that are compared at a time."""


def alike(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ by no more than `ROUNDING`, relatively; a cache's worth of entries at a time."""
    parts = zip(tensor.reshape(-1).split(PART), other.reshape(-1).split(PART), strict=True)
    return all(bool(a.equal(b) or torch.allclose(a, b, ROUNDING, 0)) for a, b in parts)


@dataclass
class FederatedArrays:
    """The arrays of a run. What is not named is decided by the first round's, and stays.

    Attributes:
        parameters: names of those that go through the scheme; `buffers`, of those that are averaged beside it.
        like: tensors without values, of the shapes and dtypes of the first round.
        means: running statistics as the last round left them, where a server's optimiser may move them.
        left: all arrays as it left them, where the strategy takes the mean of equal ones, which rounds them; `record`,
            the same as Flower carries them.
    """

    parameters: list[str] | None = None
    buffers: list[str] | None = None
    like: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, Tensor] = field(default_factory=dict)
    record: ArrayRecord | None = None

    @classmethod
    def of(cls, model: nn.Module | None, parameters: Sequence[str] | None) -> "FederatedArrays":
        """Those of a model, or with the named parameters."""
        if model is None:
            return cls(None if parameters is None else list(parameters))
        trained = model.named_parameters(remove_duplicate=False)
        named = [name for name, parameter in trained if parameter.requires_grad]
        return cls(named, [name for name, _ in model.named_buffers(remove_duplicate=False)])

    def leave(self, tensors: Mapping[str, Tensor]) -> ArrayRecord:
        """Keep all arrays as a round leaves them, and the record that strategies are handed."""
        handed = ArrayRecord(torch_state_dict=dict(tensors))
        # A strategy may empty what it is handed.
        self.left, self.record = dict(tensors), ArrayRecord(dict(handed))
        return handed

    def restored(self, arrays: ArrayRecord) -> ArrayRecord:
        """Arrays as a strategy's mean left them, in the dtypes of the first round; counters as whole numbers.

        A mean of equal arrays is these arrays, to the last bit: a sign or a choice in the next round may hang on it.
        """
        return self._restored(arrays)[0]

    def _restored(self, arrays: ArrayRecord) -> tuple[ArrayRecord, dict[str, Tensor]]:
        """The record, and its tensors: both as they came, or as the last round left them, where these are the same."""
        came = arrays.to_torch_state_dict()
        tensors = dict(came)
        for name, like in self.like.items():
            if name in tensors and tensors[name].shape == like.shape:
                tensor = self.means[name] if name in self.means else tensors[name]
                whole = tensor.is_floating_point() and not like.is_floating_point()
                tensors[name] = (tensor.round() if whole else tensor).to(like.dtype)
                if name in self.left and alike(tensors[name], self.left[name]):
                    tensors[name] = self.left[name]
        if all(tensors[name] is each for name, each in came.items()):
            return arrays, tensors
        if self.record is not None and all(tensors[name] is self.left.get(name) for name in tensors):
            return self.record, tensors
        return ArrayRecord(torch_state_dict=tensors), tensors

    def sent(self, messages: Sequence[FlowerMessage], where: str) -> tuple[str, ArrayRecord, dict[str, Tensor]]:
        """The one model that a strategy sends all clients, in its own dtypes: its key, its record, its tensors.

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
        arrays, tensors = self._restored(sent)
        records.check_arrays(tensors, self.like, "the strategy's")
        return key, arrays, tensors

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
