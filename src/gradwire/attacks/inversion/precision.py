"""The precision in which an attack computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")


@contextmanager
def computing(precision: Precision, device: str) -> Iterator[None]:
    """Compute in a precision for a while, and leave PyTorch's switches as they were.

    Args:
        precision: "fp32"; "tf32", whose products on CUDA cards carry 10 bits of mantissa (elsewhere it is fp32); or
            "bf16", mixed precision with 7 bits (`torch.autocast`).
        device: where the computation runs, such as "cpu" or "cuda:0".
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (products.allow_tf32, convolutions.allow_tf32)
    try:
        products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
