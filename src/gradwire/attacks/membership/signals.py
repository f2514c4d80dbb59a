"""Signals: a model's logits on candidates, reduced to the few numbers that attacks on its answers use.

All are float64 and in logit form: near 1, where members' probabilities lie, float32 probabilities and even their
logarithms do not have enough digits (Carlini et al. 2022, §IV-C).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, softplus

from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Signals:
    """Signals of one model, shape (n, A) for n candidates in A augmentations, or of S models, shape (S, n, A).

    Attributes:
        label: log p_y / (1 − p_y), with p_y the probability of the candidate's label.
        top: log p_max / (1 − p_max), with p_max that of the likeliest class.
        certainty: −log of the modified entropy (see `mentr`).
    """

    label: Tensor
    top: Tensor
    certainty: Tensor

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in vars(self).values()}
        if len(shapes) != 1 or self.label.ndim not in (2, 3):
            raise GradwireError(f"signals have shapes {sorted(shapes)}; all must be one (n, A) or (models, n, A)")
        if any(t.isnan().any() for t in vars(self).values()):
            raise GradwireError("a signal is not a number; the model's logits must be finite")

    def __getitem__(self, index: int | slice | Tensor) -> "Signals":
        """Some of the models (or, for one model, some of the candidates)."""
        return Signals(*(t[index] for t in vars(self).values()))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def loss(self) -> Tensor:
        """Cross-entropy of the label, −log p_y, in nats."""
        return softplus(-self.label)


def signals(logits: Tensor, labels: Tensor) -> Signals:
    """The signals of one model's logits (n, A, classes), or (n, classes) without augmentations; labels int64 (n,)."""
    logits = logits.detach().double()
    logits = logits.unsqueeze(1) if logits.ndim == 2 else logits
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise GradwireError(f"logits and labels have shapes {shapes}; they must be (n, A, classes) and (n,)")
    if not torch.isfinite(logits).all():
        raise GradwireError(f"{int((~torch.isfinite(logits)).sum())} of {logits.numel()} logits are not finite")
    classes = logits.shape[-1]
    if len(labels) and ((first := int(labels.min())) < 0 or int(labels.max()) >= classes):
        raise GradwireError(f"labels run from {first} to {int(labels.max())}; the model has {classes} classes")
    chosen = labels[:, None].expand(logits.shape[:2])
    return Signals(_odds(logits, chosen), _odds(logits, logits.argmax(-1)), -mentr(logits, chosen).log())


def mentr(logits: Tensor, labels: Tensor) -> Tensor:
    """Modified entropy −(1 − p_y)·log p_y − Σ_{i≠y} p_i·log(1 − p_i): low where a model is surely right.

    Song and Mittal (USENIX Security 2021), eq. 8. `logits` are float64, shape (…, classes), `labels` int64, shape (…).
    """
    (chances, rests), label = _logs(logits), labels[..., None]
    wrong = (chances.exp() * -rests).scatter(-1, label, 0.0).sum(-1)
    right = rests.gather(-1, label).exp() * -chances.gather(-1, label)
    # Its logarithm is a score, and must be finite.
    return (wrong + right.squeeze(-1)).clamp_min(torch.finfo(logits.dtype).tiny)


def _odds(logits: Tensor, classes: Tensor) -> Tensor:
    """log p_c / (1 − p_c) = z_c − logsumexp of the other logits; shape of `classes`."""
    rest = logits.scatter(-1, classes[..., None], -torch.inf).logsumexp(-1)
    return logits.gather(-1, classes[..., None]).squeeze(-1) - rest


def _logs(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log p_c and log(1 − p_c) of every class, exact where p_c is near 1 as well as where it is near 0."""
    top = logits.argmax(-1)
    index, odds = top[..., None], _odds(logits, top)[..., None]
    chances = log_softmax(logits, -1)
    # Only the likeliest class can have more than a half, where 1 − p and log p lose digits.
    rests = torch.log1p(-chances.exp().clamp_max(0.5)).scatter(-1, index, logsigmoid(-odds))
    return chances.scatter(-1, index, logsigmoid(odds)), rests
