"""Canaries that a client's data hold in every round, or not, by a coin each; and the guesses at the coins.

M. Nasr et al., "Tight auditing of differentially private machine learning", USENIX Security 2023: the adversary sees
every message, chooses the canaries, and knows the model, the scheme and all examples: everything but the coins.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, LocalStep, LocalStepHook, Scheme, State, Update
from gradwire.schemes.dpsgd import DPSGD, clipped_sum, share_kept
from gradwire.schemes.imitation import flat, parts
from gradwire.schemes.none import PlainSGD
from gradwire.seeds import generator
from gradwire.tasks import Pixels, Task
from gradwire.training.gradient import example_gradients


@dataclass(frozen=True)
class Differences:
    """What is known of d_j = clip(g_j) − clip(g'_j), the canaries' gradients less those of their stand-ins, at a model.

    Attributes:
        products: dᵀd, shape (m, m); or its diagonal, (m,), where no two canaries share an entry.
        rest: Σ_j clip(g'_j), flat.
        along: a flat vector → dᵀ·vector, shape (m,).
    """

    products: Tensor
    rest: Tensor
    along: Callable[[Tensor], Tensor]


class Canaries(ABC):
    """The canaries of one client."""

    @abstractmethod
    def rows(self, model: nn.Module, coins: Tensor, zeroed: bool) -> Update:
        """What a step has of them, shape (m, *parameter): gradients of canaries that are in, or of their stand-ins.

        Args:
            coins: which are in, bool (m,).
            zeroed: whether nothing stands in for one that is out, or its opposite.
        """

    @abstractmethod
    def differences(self, model: nn.Module, zeroed: bool, clip: float) -> Differences:
        """What the adversary knows, to which no example's gradient is longer than `clip`."""


@dataclass(frozen=True)
class Dirac(Canaries):
    """Gradients of one entry, norm·e_j or −norm·e_j: no clipped gradients differ by more, and no two share an entry."""

    where: Tensor
    norm: float

    @classmethod
    def drawn(cls, count: int, model: nn.Module, norm: float, *words: int | str) -> "Dirac":
        """At entries chosen at random.

        Raises:
            GradwireError: more canaries than entries.
        """
        size = Layout.of_model(model).size
        if count > size:
            raise GradwireError(f"dirac:{count} needs as many entries; the network has {size}")
        return cls(torch.randperm(size, generator=generator("dirac", *words))[:count], norm)

    def rows(self, model: nn.Module, coins: Tensor, zeroed: bool) -> Update:
        """One entry each."""
        layout, device = Layout.of_model(model), next(model.parameters()).device
        found = torch.zeros(len(self.where), layout.size, dtype=layout.dtype, device=device)
        found[torch.arange(len(found)), self.where] = self._entries(coins, zeroed, self.norm).to(found)
        return parts(found, layout)

    def differences(self, model: nn.Module, zeroed: bool, clip: float) -> Differences:
        """Those of the entries themselves."""
        layout, where = Layout.of_model(model), self.where
        ins, outs = (self._entries(torch.full_like(where, c), zeroed, min(self.norm, clip)) for c in (1, 0))
        rest = torch.zeros(layout.size, dtype=layout.dtype).index_put((where,), outs.to(layout.dtype))
        return Differences((ins - outs) ** 2, rest, lambda vector: (ins - outs) * vector[where])

    def _entries(self, coins: Tensor, zeroed: bool, size: float) -> Tensor:
        return size * (coins.double() if zeroed else 2 * coins.double() - 1)


@dataclass(frozen=True)
class Inputs(Canaries):
    """Inputs at random with a label each, or with another: their gradients are far apart, and above most clips."""

    inputs: Tensor
    targets: Tensor
    others: Tensor
    task: Task

    @classmethod
    def drawn(cls, count: int, dataset: Dataset, device: str, *words: int | str) -> "Inputs":
        """Drawn as the domain draws; of images every pixel is black or white, which makes for larger gradients.

        Raises:
            GradwireError: no classes, or one alone, which leave no other label.
        """
        if len(dataset.classes or ()) < 2:
            raise GradwireError(f"input:{count} needs classes, for the other label; take dirac canaries")
        random, domain = generator("inputs", *words), dataset.task.domain
        inputs = domain.read(domain.snapped(domain.sample(count, random=random)))
        inputs = inputs.round() if isinstance(domain, Pixels) else inputs
        one = torch.randint(dataset.outputs, (count,), generator=random)
        other = (one + torch.randint(1, dataset.outputs, (count,), generator=random)) % dataset.outputs
        return cls(inputs.to(device), one.to(device), other.to(device), dataset.task)

    def rows(self, model: nn.Module, coins: Tensor, zeroed: bool) -> Update:
        """Gradients of the examples at this model."""
        targets = torch.where(coins.to(self.targets.device), self.targets, self.others)
        found = example_gradients(model, self.inputs, targets, task=self.task)
        kept = coins if zeroed else torch.ones_like(coins)
        return {name: g * kept.to(g).view(-1, *[1] * (g.ndim - 1)) for name, g in found.items()}

    def differences(self, model: nn.Module, zeroed: bool, clip: float) -> Differences:
        """Those of the examples at this model."""
        layout = Layout.of_model(model)
        ins, outs = (
            self.rows(model, torch.full((len(self.inputs),), coin, dtype=torch.bool), zeroed) for coin in (True, False)
        )
        mine, other = ((flat(rows, layout) * share_kept(rows, clip)[:, None]).double().cpu() for rows in (ins, outs))
        d = mine - other
        return Differences(d @ d.T, other.sum(0), lambda vector: d @ vector.double())


@dataclass(frozen=True)
class Planted(PlainSGD, LocalStepHook):
    """The step of a client whose batch holds canaries as well: what a scheme's own step makes of all examples."""

    name: ClassVar[str] = "planted"
    per_example = True

    scheme: Scheme
    rows: Update = field(repr=False)

    @property
    def protects(self) -> bool:
        """As the scheme does."""
        return self.scheme.protects

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """The scheme's own step, or the mean where it has none, of the batch with the canaries behind."""
        together = {name: torch.cat([g, self.rows[name].to(g)]) for name, g in gradient.items()}
        step = replace(step, batch=len(next(iter(together.values()))))
        hook = self.scheme.step_hook
        if hook is not None and hook.per_example:
            return hook.before_step(together, private, step)
        mean = {name: g.mean(0) for name, g in together.items()}
        return (mean, private) if hook is None else hook.before_step(mean, private, step)


@dataclass
class Listener:
    """The adversary, with one client's messages: it finds the coins b for which Σ_j b_j·d_j is what was heard.

    d_j is what the clipped gradients of canary j and of its stand-in differ by, at the round's model. All rounds count
    together, as z = Lᵀb + noise of variance 1 with the Cholesky factor L of the products: coins are guessed from the
    last to the first, each from a noise of its own and with those guessed before taken out, so that no more of them are
    right than of as many single canaries. Where no canaries share an entry, each is guessed from its own.

    Attributes:
        products: Σ_rounds dᵀd/variance, or where these are zero but for its diagonal, this; `heard`, Σ_rounds dᵀ·(what
            was heard, less all that is known)/variance.
    """

    scheme: Scheme
    canaries: Canaries
    zeroed: bool
    products: Tensor | float = 0.0
    heard: Tensor | float = 0.0

    def hear(self, sent: Update, model: nn.Module, batch: int, known: Update, noise: float) -> None:
        """Take a round's message in.

        Args:
            sent: the mean of the client's batch of so many examples, as it is decoded.
            model: of the round.
            known: the gradients of all its examples but the canaries, shape (b, *parameter).
            noise: the deviation of each entry of `sent`.
        """
        layout = Layout.of_model(model)
        clip = self.scheme.clip if isinstance(self.scheme, DPSGD) else inf
        told = self.canaries.differences(model, self.zeroed, clip)
        rest = layout.flatten(clipped_sum(known, clip)).cpu() + told.rest
        off = batch * layout.flatten(sent).cpu() - rest
        # Without noise, what rounding leaves.
        longest = (told.products if told.products.ndim == 1 else told.products.diagonal()).max().sqrt()
        variance = max(batch * noise, 1e-6 * float(longest)) ** 2
        self.products = self.products + told.products / variance
        self.heard = self.heard + told.along(off) / variance

    def guesses(self) -> Tensor:
        """Which canaries are in, bool (m,)."""
        assert isinstance(self.products, Tensor)
        assert isinstance(self.heard, Tensor)
        if self.products.ndim == 1:
            return self.heard > self.products / 2
        size = len(self.products)
        # Canaries that others make up are not told apart from these.
        ridge = 1e-9 * float(self.products.trace()) / size * torch.eye(size, dtype=torch.float64)
        lower = torch.linalg.cholesky(self.products + ridge)
        left = torch.linalg.solve_triangular(lower, self.heard[:, None], upper=False)[:, 0]
        found = torch.zeros(size, dtype=torch.bool)
        for j in reversed(range(size)):
            found[j] = left[j] > lower[j, j] / 2
            left = left - lower[j] * found[j]
        return found


def right(guessed: Sequence[Tensor], coins: Sequence[Tensor]) -> int:
    """How many guesses are right, over all clients."""
    return sum(int((guess == coin).sum()) for guess, coin in zip(guessed, coins, strict=True))
