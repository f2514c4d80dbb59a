"""Which parameters of a network are its embeddings, of tokens and of positions, and the head that scores tokens.

An embedding's gradient is zero but for the rows that were looked up, which gives away what a batch holds (L. Melis et
al., "Exploiting unintended feature leakage in collaborative learning", IEEE S&P 2019, section 4.1). The parameters
are found by running the network once and noting what each layer receives, so that no name of a library's layers is
relied on.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.schemes.layout import Layout
from gradwire.tasks import Task, Tokens

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]
"""(layer, what it receives, what it gives): called behind its forward pass."""
ENOUGH = 8
"""Tokens of the sentence by which embeddings are found: too many to be consecutive numbers by chance."""


@dataclass(frozen=True)
class LookupTable:
    """A matrix with one row for each token, or for each position.

    Attributes:
        layer: the name of the layer that receives the numbers of rows (of a head: that gives a score a row).
        parameter: the matrix's name among the network's parameters, as updates have it; "" where it is none.
        sent: whether the parameter is trained, so that its gradient is part of an update.
        rows: how many there are.
        first: the row of the first position.
    """

    layer: str
    parameter: str
    sent: bool
    rows: int
    first: int = 0


@dataclass(frozen=True)
class Embeddings:
    """The tables of a network of text.

    Attributes:
        tokens: the one looked up by token.
        positions: the one looked up by position; None where there is none (rotary or sinusoidal positions).
        head: the linear layer that gives a score to each token; None where the network gives none.
    """

    tokens: LookupTable
    positions: LookupTable | None
    head: LookupTable | None

    @property
    def tied(self) -> bool:
        """Whether the head's matrix is that of the tokens: then every row of it has a gradient."""
        return self.head is not None and self.head.parameter == self.tokens.parameter != ""


def text_domain(task: Task, attack: str) -> Tokens:
    """The domain of a task of text; GradwireError that names the attack where it is another."""
    if not isinstance(task.domain, Tokens):
        raise GradwireError(
            f"attack {attack!r} reads text; the inputs are {task.domain.name}, which other attacks take"
        )
    return task.domain


def trace(model: nn.Module, task: Task) -> Embeddings:
    """Find the tables by one run of a copy of the network, in evaluation mode.

    Raises:
        GradwireError: no `nn.Embedding` receives the tokens.
    """
    domain = text_domain(task, "tokens")
    network = set_mode(copied(model), "eval")
    names = {id(p): name for name, p in network.named_parameters()}
    sent = Layout.of_model(network).shapes
    sentence = _sentence(domain).to(next(network.parameters()).device)
    found: dict[str, LookupTable] = {}

    def table(layer: str, module: nn.Module, first: int = 0) -> LookupTable:
        weight = module.weight
        assert isinstance(weight, Tensor)
        name = names.get(id(weight), "")
        return LookupTable(layer, name, name in sent, len(weight), first)

    def looked_up(layer: str) -> Hook:
        def note(module: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
            numbers = given[0].reshape(-1, given[0].shape[-1]) if given and given[0].ndim else sentence[:0]
            if numbers.shape[-1] != sentence.shape[-1]:
                return
            if bool((numbers == sentence).all()):
                found.setdefault("tokens", table(layer, module))
            elif bool((numbers.diff(dim=1) == 1).all()):
                found.setdefault("positions", table(layer, module, int(numbers[0, 0])))

        return note

    def scored(layer: str) -> Hook:
        def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and output.shape == (*sentence.shape, len(domain.vocabulary)):
                found["head"] = table(layer, module)

        return note

    for layer, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(looked_up(layer))
        elif isinstance(module, nn.Linear):
            module.register_forward_hook(scored(layer))
    with torch.no_grad():
        task.output(network, sentence)
    if "tokens" not in found:
        raise GradwireError(
            f"model {type(model).__name__} looks its tokens up in no nn.Embedding; attacks on text need one"
        )
    return Embeddings(found["tokens"], found.get("positions"), found.get("head"))


def on_the_wire(embeddings: Embeddings, attack: str) -> LookupTable:
    """The tokens' table, whose gradient is part of the update.

    Raises:
        GradwireError: it is not (frozen, or adapters alone are trained).
    """
    tokens = embeddings.tokens
    if not tokens.sent:
        name = tokens.parameter or tokens.layer
        raise GradwireError(
            f"attack {attack!r}: no embedding is on the wire, for {name!r} is not trained; "
            "try 'dager', which reads the spans of the inputs of layers that are"
        )
    return tokens


def _sentence(domain: Tokens) -> Tensor:
    """Descending tokens, int64 (1, n), none of them padding: no run of positions looks like it."""
    size = len(domain.vocabulary)
    tokens = [token for token in range(size - 1, -1, -1) if token != domain.pad]
    return torch.tensor([tokens[: min(ENOUGH, domain.length)]])
