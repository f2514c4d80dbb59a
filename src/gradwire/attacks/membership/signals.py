"""Signals: a model's answers on candidates, reduced to the few numbers that attacks on them use.

Of cross-entropy, these are functions of the logits (`signals`); of any other loss, of an example's loss alone
(`Signals.of_losses`). All are float64 and in logit form: near 1, where members' probabilities lie, float32
probabilities and even their logarithms do not have enough digits (Carlini et al. 2022, §IV-C).
"""

from collections.abc import Callable, Sequence
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
        top: log p_max / (1 − p_max), with p_max that of the likeliest class; None where there are no probabilities.
        certainty: −log of the modified entropy (see `mentr`); None where there are no probabilities.
    """

    label: Tensor
    top: Tensor | None = None
    certainty: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in self.known.values()}
        if len(shapes) != 1 or self.label.ndim not in (2, 3):
            raise GradwireError(f"signals have shapes {sorted(shapes)}; all must be one (n, A) or (models, n, A)")
        if any(t.isnan().any() for t in self.known.values()):
            raise GradwireError("a signal is not a number; the model's logits must be finite")

    def __getitem__(self, index: int | slice | Tensor) -> "Signals":
        """Some of the models (or, for one model, some of the candidates)."""
        return self.each(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of_losses(cls, losses: Tensor) -> "Signals":
        """The signals of losses L ≥ 0 without probabilities of classes, shape (n, A): the label's alone.

        It is −log(e^L − 1), what log p / (1 − p) is at p = e^−L, so that `loss` gives L back.

        Raises:
            GradwireError: a loss that is not finite, or negative, which no probability has.
        """
        losses = losses.detach().double()
        if len(wrong := (~(losses.isfinite() & (losses >= 0))).nonzero()):
            example, value = int(wrong[0, 0]), float(losses[tuple(wrong[0])])
            raise GradwireError(f"the loss of example {example} is {value:g}; it must be finite, and 0 or more")
        # Signals are finite. Written by e^−L, for e^L overflows.
        losses = losses.clamp_min(torch.finfo(losses.dtype).tiny)
        return cls(-losses - (-torch.expm1(-losses)).log())

    @classmethod
    def joined(cls, several: Sequence["Signals"], how: Callable[[list[Tensor]], Tensor]) -> "Signals":
        """Several signals of one kind as one, by such a function as torch.stack."""
        return cls(**{name: how([each.known[name] for each in several]) for name in several[0].known})

    @property
    def known(self) -> dict[str, Tensor]:
        """The signals that there are, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def each(self, change: Callable[[Tensor], Tensor]) -> "Signals":
        """What a function makes of each of the signals."""
        return Signals(**{name: change(tensor) for name, tensor in self.known.items()})

    @property
    def loss(self) -> Tensor:
        """The loss, in nats: −log p_y, the cross-entropy of the label, where there are probabilities."""
        return softplus(-self.label, threshold=40)  # beyond it, the difference from a line is below float64's digits


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
