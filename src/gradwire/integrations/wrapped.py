"""Networks within torch.compile and DDP, the names of their parameters, and what a step's forward passes show."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradwire.errors import GradwireError

PREFIXES = ("_orig_mod.", "module.")
"""What torch.compile and DDP put before the names of parameters."""


@dataclass
class Seen:
    """A step to be recorded, as its forward passes showed it.

    Attributes:
        model: before the first of them, and the names of modules that were in evaluation mode.
        passes: so far, with `batch` examples in all.
    """

    step: int
    model: dict[str, Tensor]
    evaluated: tuple[str, ...]
    passes: int = 0
    batch: int = 0

    @classmethod
    def of(cls, step: int, network: nn.Module) -> "Seen":
        """A network before a step."""
        model = {plain_name(name): tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        return cls(step, model, tuple(plain_name(name) for name, m in network.named_modules() if not m.training))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network within torch.compile and DDP."""
    parallel = parallel_of(model)
    model = model if parallel is None else parallel.module
    return getattr(model, "_orig_mod", model)


def check_whole(model: nn.Module) -> None:
    """Refuse a model of which each worker holds a part.

    Raises:
        GradwireError: naming the first parameter that is a DTensor.
    """
    from torch.distributed.tensor import DTensor  # takes a second, which DDP has spent already

    for name, parameter in model.named_parameters():
        if isinstance(parameter, DTensor):
            raise GradwireError(
                f"parameter {plain_name(name)!r} is a DTensor, of which each worker holds a part; fsdp_hook compresses "
                "between replicas of models that fully_shard has sharded"
            )


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile and DDP put before it."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace("._orig_mod.", ".")


def parallel_of(model: nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel in a model, compiled or not."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, DistributedDataParallel) else None
