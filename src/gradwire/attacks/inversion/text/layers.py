"""Which linear layers of a network receive what of a sentence, traced by running it.

A linear layer's gradient is a sum of products, each of a slope and of an input of the layer. DAGER (Petrov et al.,
2024) reads two kinds of layers. The inputs of the first kind depend on a token and its position alone (queries, keys
and values of the first block). Those of the second kind depend on the tokens before it as well (causal models), or on
the whole sentence (encoders). Here both kinds are found by changing one token of a probe and looking at which positions
change.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.seeds import drawing
from gradwire.tasks import Task, Tokens
from gradwire.wire.view import Mode

PROBE = 8
"""Positions of a probe, at most."""
SAME = 1e-6
"""Relative difference up to which two inputs are one: rounding of float32 stays below."""
Reach = Literal["token", "prefix", "sentence"]


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer that is called once in a forward pass, for every position of a sentence.

    Attributes:
        name: of the module, and `weight` of its parameter.
        inner: the dimension of the weight along which inputs lie: 1 in `nn.Linear`, 0 in the Conv1D of `transformers`.
        width: how many numbers an input has, and `outputs` an output.
        reach: what an input depends on: the token at its position, the tokens up to it, or the whole sentence.
        group: layers of equal numbers receive equal inputs (queries, keys and values of one block).
    """

    name: str
    weight: str
    inner: int
    width: int
    outputs: int
    reach: Reach
    group: int


@dataclass(frozen=True)
class TracedNetwork:
    """A network as the victim ran it, of which inputs of layers are asked.

    Attributes:
        model: a copy of the victim's, in its mode.
        task: whose domain is tokens.
        layers: in the order in which they are called.
        positions: name of the embedding that is looked up by position, and the row of the first; None without one.
        head: the layer that gives a score for each token of the vocabulary; None where there is none.
    """

    model: nn.Module = field(repr=False)
    task: Task = field(repr=False)
    layers: tuple[LinearLayer, ...]
    positions: tuple[str, int] | None
    head: LinearLayer | None

    @property
    def domain(self) -> Tokens:
        """What sentences are."""
        assert isinstance(self.task.domain, Tokens)
        return self.task.domain

    @property
    def causal(self) -> bool:
        """Whether no layer's inputs depend on tokens that come later."""
        return all(layer.reach != "sentence" for layer in self.layers)

    @classmethod
    def of(cls, model: nn.Module, task: Task, mode: Mode, length: int, device: str = "cpu") -> "TracedNetwork":
        """Trace a network with sentences of `length` tokens at most.

        Raises:
            GradwireError: inputs that are no text, dropout that was at work, or no linear layer that receives tokens.
        """
        if not isinstance(task.domain, Tokens):
            raise GradwireError(f"dager reads sentences, and these are {task.domain.what}; try iga or analytic")
        network = set_mode(copied(model).to(device), mode)
        length, changed = min(length, PROBE), min(length, PROBE) // 2
        one, other, *_ = (token for token in range(len(task.domain.vocabulary)) if token != task.domain.pad)
        probes = torch.full((3, length), one, device=device)
        probes[2, changed] = other
        linear = {name: module for name, module in network.named_modules() if inner_dimension(module) is not None}
        tables = {name: module for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
        called: dict[str, list[Tensor]] = {}
        looked_up: dict[str, list[Tensor]] = {}
        with drawing(0), torch.no_grad(), _watched(linear, called), _watched(tables, looked_up):
            task.output(network, probes, targets=task.loss.derived(probes) if task.loss.from_inputs else None)
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        places = [
            (names[id(tables[name].weight)], int(rows[0].flatten()[0]))
            for name, rows in looked_up.items()
            if id(tables[name].weight) in names and _consecutive(rows[0], length)
        ]
        layers: list[LinearLayer] = []
        groups: list[Tensor] = []
        for name, inputs in called.items():
            weight = linear[name].weight
            if len(inputs) > 1 or inputs[0].numel() != 3 * length * inputs[0].shape[-1] or id(weight) not in names:
                continue
            same, one_changed = _compare(inputs[0].reshape(3, length, -1))
            if not one_changed:
                continue
            if not same:
                raise GradwireError(
                    f"dager needs the inputs of {name!r} as the victim computed them; in mode {mode!r} the network "
                    "draws at random (dropout): only mode 'eval' or dropout 0 can be read"
                )
            number = next((n for n, g in enumerate(groups) if torch.equal(g, inputs[0])), len(groups))
            groups += [inputs[0]] if number == len(groups) else []
            inner = inner_dimension(linear[name])
            assert inner is not None
            width, outputs = weight.shape[inner], weight.shape[1 - inner]
            layers.append(
                LinearLayer(name, names[id(weight)], inner, width, outputs, _reach(one_changed, changed), number)
            )
        if not layers:
            kind = type(model).__name__
            raise GradwireError(f"dager reads linear layers that receive every token; {kind} has none")
        scores = [layer for layer in layers if layer.inner == 1 and layer.outputs >= len(task.domain.vocabulary)]
        positions = places[0] if places and length > 2 else None
        return cls(network, task, tuple(layers), positions, scores[-1] if scores else None)

    def inputs(self, tokens: Tensor, layers: Iterable[LinearLayer]) -> dict[str, Tensor]:
        """Inputs of layers for sentences (N, L) without padding: name → (N, L, width). Nothing behind them is run."""
        last = max(map(self.layers.index, layers))
        wanted = {layer.name: self.model.get_submodule(layer.name) for layer in layers}
        called: dict[str, list[Tensor]] = {}
        watched = _watched(wanted, called, stop=self.layers[last].name)
        with drawing(0), torch.no_grad(), watched, suppress(_Enough):
            self.task.output(self.model, tokens)
        return {name: found[0].reshape(len(tokens), -1, found[0].shape[-1]) for name, found in called.items()}


class _Enough(Exception):
    """Ends a forward pass when all that is sought was seen."""


def inner_dimension(module: nn.Module) -> int | None:
    """Along which dimension of a linear layer's weight its inputs lie; None for other modules."""
    if isinstance(module, nn.Linear):
        return 1
    conv1d = type(module).__name__ == "Conv1D" and isinstance(getattr(module, "weight", None), nn.Parameter)
    return 0 if conv1d and module.weight.ndim == 2 else None


@contextmanager
def _watched(
    modules: Mapping[str, nn.Module], called: dict[str, list[Tensor]], stop: str | None = None
) -> Iterator[None]:
    """Keep the inputs of modules in `called`, in the order of the calls; end the pass at the module `stop`."""

    def watch(name: str) -> Any:
        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            called.setdefault(name, []).append(arguments[0].detach())
            if name == stop:
                raise _Enough

        return note

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(watch(name)))
        yield


def _compare(inputs: Tensor) -> tuple[bool, list[int]]:
    """Whether the first two of three probes have equal inputs, and at which positions the third one's differ."""
    size = inputs.norm(dim=2).amax().clamp_min(torch.finfo(inputs.dtype).tiny)
    repeated, changed = ((inputs[0] - inputs[n]).norm(dim=1) / size for n in (1, 2))
    return bool((repeated <= SAME).all()), (changed > SAME).nonzero()[:, 0].tolist()


def _reach(differing: list[int], changed: int) -> Reach:
    """What inputs depend on, from the positions that differ when one token is changed."""
    if all(position == changed for position in differing):
        return "token"
    return "prefix" if min(differing) >= changed else "sentence"


def _consecutive(rows: Tensor, length: int) -> bool:
    """Whether rows of a table are looked up by position: each the one behind that of the position before."""
    return rows.numel() % length == 0 and bool((rows.reshape(-1, length).diff(dim=1) == 1).all())
