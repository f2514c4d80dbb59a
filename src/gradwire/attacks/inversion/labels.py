"""Labels from the last layer's gradient.

B. Zhao, K. R. Mopuri, H. Bilen, "iDLG: Improved deep leakage from gradients", 2020.
"""

from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.schemes import Update


def infer(model: nn.Module, update: Update, batch: int) -> Tensor:
    """The label of a single image, int64, shape (1,).

    Under cross-entropy the last bias has the gradient softmax − onehot: only the true class's entry is negative
    (iDLG, eq. 3). Without a bias the same holds for the row sums of the last weight, as far as the layer's inputs
    are not negative (eq. 5).

    Raises:
        GradwireError: several images, or a model that does not end in a linear layer.
    """
    if batch != 1:
        raise GradwireError(f"labels of a batch of {batch} images cannot be inferred; one image's can")
    weight, bias = last_linear(model)
    evidence = update[bias] if bias is not None else update[weight].sum(1)
    return evidence.argmin()[None]


def last_linear(model: nn.Module) -> tuple[str, str | None]:
    """Names of the last linear layer's weight and bias (None if it has none).

    Raises:
        GradwireError: the model has no linear layer.
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise GradwireError(f"labels cannot be inferred: {type(model).__name__} has no linear layer")
    name, module = linear[-1]
    prefix = f"{name}." if name else ""
    return f"{prefix}weight", None if module.bias is None else f"{prefix}bias"
