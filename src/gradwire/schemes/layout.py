"""The names, shapes and order of a model's parameters, and the flat vector of an update."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import prod

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.schemes.memory import empty

Update = Mapping[str, Tensor]
"""One party's contribution to one round: parameter name → tensor."""


@dataclass(frozen=True)
class Layout:
    """Parameter names, shapes and dtypes in the model's order. Public: every party derives it from the model.

    Attributes:
        dtypes: of parameters that are not float32.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)

    @classmethod
    def of(cls, update: Update) -> "Layout":
        """The layout of an update."""
        shapes = {name: tuple(tensor.shape) for name, tensor in update.items()}
        return cls(shapes, {name: tensor.dtype for name, tensor in update.items() if tensor.dtype != torch.float32})

    @classmethod
    def of_model(cls, model: nn.Module) -> "Layout":
        """The layout of a model's updates: its parameters that require a gradient."""
        return cls.of({name: p for name, p in model.named_parameters() if p.requires_grad})

    @cached_property
    def dtype(self) -> torch.dtype:
        """What updates are computed and sent in: float32, or float64 where a parameter is."""
        return torch.float64 if torch.float64 in self.dtypes.values() else torch.float32

    @cached_property
    def own(self) -> dict[str, torch.dtype]:
        """The dtype of each parameter."""
        return {name: self.dtypes.get(name, torch.float32) for name in self.shapes}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Entries of each parameter."""
        return {name: prod(shape) for name, shape in self.shapes.items()}

    @cached_property
    def size(self) -> int:
        """Entries of the whole update."""
        return sum(self.sizes.values())

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each parameter begins in the flat vector."""
        return dict(zip(self.sizes, accumulate(self.sizes.values(), initial=0), strict=False))

    def difference(self, old: Update, new: Update) -> dict[str, Tensor]:
        """old − new, of the parameters' own dtypes; where these are all the layout's, in one piece of memory."""
        if set(self.own.values()) - {self.dtype}:
            return {name: old[name] - new[name] for name in self.shapes}
        parts = self.unflatten(self.room())
        for name, part in parts.items():
            torch.sub(old[name], new[name], out=part)
        return parts

    def vector(self, update: Update) -> Tensor:
        """As `flatten`, but in the update's own memory where that lies in one piece: not to be written to."""
        first = next(iter(update.values()), None)
        if first is None or first.dtype != self.dtype or not first.is_contiguous():
            return self.flatten(update)
        memory, place = first.untyped_storage().data_ptr(), first.storage_offset()
        for name, begin in self.offsets.items():
            part = update[name]
            here = part.untyped_storage().data_ptr() == memory and part.storage_offset() == place + begin
            if part.numel() and not (here and part.is_contiguous() and part.dtype == self.dtype):
                return self.flatten(update)
        return first.as_strided((self.size,), (1,))

    def flatten(self, update: Update) -> Tensor:
        """The update as one vector, shape (size,)."""
        parts = [update[name].reshape(-1).to(self.dtype) for name in self.shapes]
        return torch.cat(parts) if parts else torch.empty(0, dtype=self.dtype)

    def plus(self, update: Update, vector: Tensor, factor: float = 1.0) -> Tensor:
        """`flatten(update)` + factor · `vector`, in one pass over memory."""
        total = self.room()
        for name, part in zip(self.shapes, vector.split(list(self.sizes.values())), strict=True):
            begin = self.offsets[name]
            torch.add(update[name].reshape(-1), part, alpha=factor, out=total[begin : begin + part.numel()])
        return total

    def room(self) -> Tensor:
        """Memory for a flat update, whatever it holds."""
        return empty(self.size, self.dtype)

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The update whose vector this is; its tensors are views of it."""
        parts = vector.split(list(self.sizes.values()))
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def zeros(self) -> dict[str, Tensor]:
        """An update of zeros."""
        return {name: torch.zeros(shape, dtype=self.dtype) for name, shape in self.shapes.items()}

    def part(self, names: Iterable[str]) -> "Layout":
        """The layout of some of the parameters, in the order given."""
        shapes = {name: self.shapes[name] for name in names}
        return Layout(shapes, {name: self.dtypes[name] for name in shapes if name in self.dtypes})

    def restored(self, update: Update) -> Update:
        """The update in the parameters' own dtypes; as it is where these are all the layout's dtype."""
        if set(self.own.values()) <= {self.dtype}:
            return update
        return {name: tensor.to(self.own[name]) for name, tensor in update.items()}

    def check(self, update: Update) -> None:
        """Refuse an update of another layout, or with a tensor or a value that cannot be sent.

        Raises:
            GradwireError: naming the parameter.
        """
        if Layout.of(update).shapes != self.shapes:
            raise GradwireError(f"update has {_differing(update, self.shapes)}; the model's parameters say otherwise")
        for name, tensor in update.items():
            if not tensor.is_floating_point() or tensor.layout != torch.strided:
                kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
                raise GradwireError(f"update of {name!r} is of {kind}; it must be a dense tensor of real numbers")
            # A finite sum says in one quick pass that every term is.
            if not tensor.sum().isfinite() and not torch.isfinite(tensor).all():
                bad = int((~torch.isfinite(tensor)).sum())
                raise GradwireError(f"gradient of {name!r} is not finite in {bad} of {tensor.numel()} entries")


class Formed(Mapping[str, Tensor]):
    """An update whose tensors are made when they are asked for, each time anew.

    Attributes:
        layout: of the update.
    """

    layout: Layout

    @abstractmethod
    def write(self, name: str, out: Tensor) -> None:
        """Write a parameter's tensor to contiguous memory of its shape."""

    def __getitem__(self, name: str) -> Tensor:
        out = torch.empty(self.layout.shapes[name], dtype=self.layout.dtype)
        self.write(name, out)
        return out

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.shapes)

    def __len__(self) -> int:
        return len(self.layout.shapes)


def write(update: Update, name: str, out: Tensor) -> None:
    """Write a parameter's part of an update to `out`, of its shape."""
    if isinstance(update, Formed) and out.is_contiguous() and out.dtype == update.layout.dtype and not out.is_cuda:
        update.write(name, out)
    else:
        out.copy_(update[name])


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """The present values of the parameters of an update: name → tensor on the CPU, without a gradient."""
    return {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}


def _differing(update: Update, shapes: Mapping[str, tuple[int, ...]]) -> str:
    for name in (*shapes, *update):
        shape = tuple(update[name].shape) if name in update else None
        if shape != shapes.get(name):
            return f"{name!r} of shape {shape}"
    return "its parameters in another order"
