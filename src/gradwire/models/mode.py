"""How a network is run: its mode, the type of its inputs, which of its outputs are logits; and copies of it."""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError

M = TypeVar("M", bound=nn.Module)
NARROW = (torch.float16, torch.bfloat16)


def set_mode(model: M, mode: str) -> M:
    """Put a model into a mode, in place.

    "eval" puts every layer into evaluation mode. "train" leaves a model in training mode as it is, so that layers which
    its user has put into `eval()` stay frozen; it puts a model in evaluation mode into training as a whole.

    Raises:
        GradwireError: another mode.
    """
    if mode not in ("train", "eval"):
        raise GradwireError(f"mode is {mode!r}; it must be 'train' or 'eval'")
    return model if mode == "train" and model.training else model.train(mode == "train")


class in_mode:
    """Run a block with a model in a mode (see `set_mode`), and put every module back as it was."""

    def __init__(self, model: nn.Module, mode: str):
        self.model, self.mode = model, mode

    def __enter__(self) -> None:
        self.before = {module: module.training for module in self.model.modules()}
        set_mode(self.model, self.mode)

    def __exit__(self, *_: object) -> None:
        for module, training in self.before.items():
            module.training = training


def copied(model: M) -> M:
    """A copy that shares nothing with the model; each module keeps its mode.

    `copy.deepcopy` refuses what `torch.nn.utils.weight_norm` and `spectral_norm` leave in a module, a weight that they
    compute anew before each forward pass; here the copy gets its value.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def floating(model: nn.Module) -> torch.dtype:
    """The floating-point type of a model's parameters: that of the first; float32 where there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def logits(output: object) -> Tensor:
    """The logits in what a model gives: the output itself, its attribute or key `logits`, or a tuple's first entry.

    Raises:
        GradwireError: there are none.
    """
    found = output
    if not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, Mapping):
            found = output.get("logits")
        if found is None and isinstance(output, tuple | list) and output:
            found = output[0]
    if not isinstance(found, Tensor):
        kind = type(output).__name__
        raise GradwireError(f"model gives a {kind}; it must give a tensor of logits, .logits, ['logits'] or a tuple")
    return found


def slopes(value: Tensor, parameters: Mapping[str, Tensor], again: bool = False) -> dict[str, Tensor]:
    """The slope of a value in each parameter, zeros where it does not depend on one.

    Args:
        again: whether slopes are to be differentiated in turn.
    """
    found = torch.autograd.grad(value, list(parameters.values()), create_graph=again, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(parameters.items(), found, strict=True)}


def failure(error: Exception) -> str:
    """The first line of what an error says; PyTorch's paragraph about vmap in few words."""
    if str(error).startswith("vmap: It looks like"):
        return "the model's path depends on values, which vmap hides"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
