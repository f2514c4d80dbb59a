"""Flower's own SecAgg+ in one process: its client half at every node; its workflow, or anything else, as the server.

`secaggplus_mod` answers a server's messages in four stages; `SecAggPlusWorkflow` is the server that Flower ships. What
a conformance report says of SecAgg+ is what this code does, whichever version of flwr is installed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.message_type import MessageType
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from gradwire.errors import GradwireError, WireError

Arrays = list[NDArray[Any]]
Train = Callable[[int, Arrays], tuple[Arrays, int]]
"""(node, the server's parameters) → parameters after training, number of examples."""
Told = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class SecAggPlus:
    """SecAgg+ as a server sets it up; names and defaults are those of `SecAggPlusWorkflow` where it has any.

    Attributes:
        shares: into how many shares a secret is split; at most 1: a share of the clients.
        threshold: shares that restore a secret; at most 1: a share of them.
    """

    shares: float = 1.0
    threshold: float = 2 / 3
    max_weight: float = 1000.0
    clipping_range: float = 8.0
    quantization_range: int = 1 << 22
    modulus_range: int = 1 << 32

    def workflow(self) -> SecAggPlusWorkflow:
        """Flower's server."""
        counts = (float(each) if each <= 1 else int(each) for each in (self.shares, self.threshold))
        rest = ("max_weight", "clipping_range", "quantization_range", "modulus_range")
        return SecAggPlusWorkflow(*counts, **{name: getattr(self, name) for name in rest})

    def setup(self, clients: int, **lies: float) -> dict[str, Any]:
        """What the first message tells each of so many clients; `lies` are told in the place of what is true."""
        shares = round(self.shares * clients) if self.shares <= 1 else int(self.shares)
        threshold = max(2, round(self.threshold * shares)) if self.threshold <= 1 else int(self.threshold)
        told = {
            Key.SAMPLE_NUMBER: clients,
            Key.SHARE_NUMBER: shares,
            Key.THRESHOLD: threshold,
            Key.CLIPPING_RANGE: self.clipping_range,
            Key.TARGET_RANGE: self.quantization_range,
            Key.MOD_RANGE: self.modulus_range,
            Key.MAX_WEIGHT: self.max_weight,
        }
        return told | lies


class Nodes:
    """Clients whose apps are Flower's SecAgg+ around one training function. Messages go through its serialisation."""

    def __init__(self, count: int, train: Train):
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.train, self.names = train, tuple(range(1, count + 1))
        self._contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in self.names}

    def answer(self, message: Message) -> Message:
        """A node's reply; one that holds an error where its half raises."""
        node = message.metadata.dst_node_id
        try:
            heard = message_from_proto(message_to_proto(message))
            return message_from_proto(message_to_proto(secaggplus_mod(heard, self._contexts[node], self._app)))
        except Exception as error:
            return Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)

    def ask(self, node: int, stage: str, said: Mapping[str, Any], parameters: Arrays | None = None) -> dict[str, Any]:
        """What a node answers in a stage; WireError if it refuses."""
        content = RecordDict() if parameters is None else compat.fitins_to_recorddict(_instruction(parameters), True)
        content.config_records[RECORD_KEY_CONFIGS] = ConfigRecord({Key.STAGE: stage, **said})
        reply = self.answer(Message(content, dst_node_id=node, message_type=MessageType.TRAIN, group_id="1"))
        if reply.has_error():
            raise WireError(f"node {node}, stage {stage!r}: {reply.error.reason}")
        told = dict(reply.content.config_records.pop(RECORD_KEY_CONFIGS))
        beside = [*reply.content.config_records.items(), *reply.content.metric_records.items()]
        return told | {f"{record}/{name}": value for record, held in beside for name, value in held.items()}

    def masked(self, terms: SecAggPlus, parameters: Arrays | Mapping[int, Arrays], told: Told = {}) -> dict[int, Any]:  # noqa: B006
        """What every node sends of its training, after a server has taken them through the stages before.

        Args:
            parameters: what nodes begin with; by node, where they are not told the same.
            told: node → what the server tells it in the first stage in place of the truth.

        Raises:
            WireError: a node refuses.
        """
        keys = {}
        for i in self.names:
            sent = self.ask(i, Stage.SETUP, terms.setup(len(self.names), **told.get(i, {})))
            keys[i] = [sent[Key.PUBLIC_KEY_1], sent[Key.PUBLIC_KEY_2]]
        dealt: dict[int, dict[int, bytes]] = {i: {} for i in self.names}
        for i in self.names:
            sent = self.ask(i, Stage.SHARE_KEYS, {str(j): pair for j, pair in keys.items()})
            for j, sealed in zip(sent[Key.DESTINATION_LIST], sent[Key.CIPHERTEXT_LIST], strict=True):
                dealt[j][i] = sealed
        each = parameters if isinstance(parameters, Mapping) else dict.fromkeys(self.names, parameters)
        return {i: self.collect(i, dealt[i], each[i]) for i in self.names}

    def collect(self, node: int, dealt: Mapping[int, bytes], parameters: Arrays) -> dict[str, Any]:
        """What a node sends of its training, given the shares that were dealt to it."""
        said = {Key.CIPHERTEXT_LIST: list(dealt.values()), Key.SOURCE_LIST: list(dealt)}
        return self.ask(node, Stage.COLLECT_MASKED_VECTORS, said, parameters)

    def memory(self, node: int) -> Mapping[str, Any]:
        """What a node remembers: a colluder's is the server's."""
        held: Mapping[str, Any] = self._contexts[node].state.config_records["secaggplus_state"]
        return held

    def _app(self, message: Message, context: Context) -> Message:
        fit = compat.recorddict_to_fitins(message.content, keep_input=True)
        trained, examples = self.train(context.node_id, parameters_to_ndarrays(fit.parameters))
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(trained), examples, {})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)


class _NodesGrid(Grid):
    """Delivers messages to nodes, of which one may fall silent."""

    run = None

    def __init__(self, nodes: Nodes, vanish: tuple[str, int] | None):
        self.nodes, self.vanish, self._silent = nodes, vanish, set[int]()

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        """Replies of those that are there."""
        return [self.nodes.answer(each) for each in messages if self._there(each)]

    def _there(self, message: Message) -> bool:
        node, stage = message.metadata.dst_node_id, message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if self.vanish == (stage, node):
            self._silent.add(node)
        return node not in self._silent

    def get_node_ids(self) -> list[int]:
        """All nodes."""
        return list(self.nodes.names)

    def _unused(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the workflow of SecAgg+ does not call this")

    create_message = push_messages = pull_messages = set_run = _unused


@dataclass(frozen=True)
class FlowerMean:
    """What a round came to: the weighted mean of the nodes' arrays, and what Flower logged as a warning or worse."""

    mean: Arrays
    logged: tuple[str, ...] = field(default=())


def honest_round(
    terms: SecAggPlus, nodes: Nodes, parameters: Sequence[NDArray[Any]], vanish: tuple[str, int] | None = None
) -> FlowerMean:
    """One round by Flower's workflow.

    Args:
        parameters: what every node begins with.
        vanish: (stage, node): from which message on a node is not heard of any more.

    Raises:
        GradwireError: the workflow ends without a sum, and says why in its log.
    """
    begin, state = list(parameters), RecordDict()
    state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(ndarrays_to_parameters(begin), True)
    state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    found: list[Arrays] = []

    def aggregate(number: int, results: Any, failures: Any) -> tuple[None, dict[str, Any]]:
        found.append(parameters_to_ndarrays(results[0][1].parameters))
        return None, {}

    strategy = SimpleNamespace(
        configure_fit=lambda *_: [(SimpleNamespace(node_id=i), _instruction(begin)) for i in nodes.names],
        aggregate_fit=aggregate,
    )
    context = LegacyContext(Context(1, 0, {}, state, {}), strategy=strategy)
    with _heard() as logged:
        try:
            terms.workflow()(_NodesGrid(nodes, vanish), context)
        except Exception as error:
            raise GradwireError(f"Flower's workflow: {type(error).__name__}: {error}") from error
    if not found:
        raise GradwireError(f"Flower's workflow ends without a sum: {'; '.join(logged)}")
    return FlowerMean(found[0], tuple(logged))


def _instruction(parameters: Arrays) -> FitIns:
    return FitIns(ndarrays_to_parameters([np.asarray(each) for each in parameters]), {})


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Warnings and errors that Flower logs in a block; its other words are kept quiet."""
    told: list[str] = []
    logger = logging.getLogger("flwr")
    keep = logging.Handler(logging.WARNING)
    keep.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    before, others = logger.propagate, list(logger.handlers)
    logger.propagate, logger.handlers = False, [keep]
    try:
        yield told
    finally:
        logger.propagate, logger.handlers = before, others


STAGES = Stage.all()
