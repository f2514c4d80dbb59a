"""Flower's apps in one process: every message and every client's state goes through Flower's own serialisation."""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import context_from_proto, context_to_proto, message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from gradwire.integrations.flower import SchemeMod
from gradwire.integrations.flower.records import KEY, PAYLOAD

__all__ = [
    "ArrayRecord",
    "ConfigRecord",
    "LocalGrid",
    "Message",
    "MetricRecord",
    "RecordDict",
    "app",
    "ask",
    "carried",
    "parts",
    "put",
]


def carried(message):
    return message_from_proto(message_to_proto(message))


def parts(message):
    """gradwire's messages in one of Flower's: name → bytes."""
    held = {} if message.has_error() else message.content.array_records.get(PAYLOAD, {})
    return {name: array.data for name, array in held.items()}


def put(message, name, data):
    """Replace one of gradwire's messages."""
    message.content[PAYLOAD][name] = Array("uint8", (len(data),), KEY, data)


def app(spec, node, change, examples=10, secret=None):
    """A ClientApp as anybody writes it, with the mod: `change` gives (node, round, arrays) → trained arrays."""
    made = ClientApp()

    @made.train(mods=[] if spec is None else [SchemeMod(spec, secret=secret)])
    def work(message, context):
        assert list(message.content) == ["arrays", "config"]
        context.state["trained"] = ConfigRecord({"times": context.state.get("trained", {"times": 0})["times"] + 1})
        arrays = dict(message.content["arrays"].to_torch_state_dict())
        after = change(node, message.content["config"]["server-round"], arrays)
        metrics = MetricRecord({"loss": float(node), "num-examples": examples})
        return Message(RecordDict({"arrays": ArrayRecord(after), "metrics": metrics}), reply_to=message)

    @made.evaluate()
    def judge(message, context):
        metrics = MetricRecord({"loss": 1.0, "num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return made


def ask(arrays, node, round=1):
    """A strategy's message."""
    content = RecordDict({"arrays": ArrayRecord(arrays), "config": ConfigRecord({"server-round": round})})
    return Message(content, node, "train")


class LocalGrid(Grid):
    """Delivers messages to one ClientApp a node, at once.

    Attributes:
        silent: nodes that hear nothing.
        asked, replied: messages of training, in order. `twist`: (reply, its number) → replies that arrive in its place.
        twice: numbers of the messages of training that are delivered twice, the first answer being lost.
    """

    def __init__(self, apps):
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.apps = apps
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in apps}
        self.silent, self.came = set(), {}
        self.asked, self.replied = [], []
        self.twist = lambda reply, number: [reply]
        self.twice = lambda number: False

    def send_and_receive(self, messages, *, timeout=None):
        return [reply for m in messages if m.metadata.dst_node_id not in self.silent for reply in self._deliver(m)]

    def _deliver(self, message):
        if message.metadata.message_type != "train":
            return [self.answer(message)]
        number = len(self.asked)
        self.asked.append(carried(message))
        first = self.answer(message)
        self.replied.append(self.answer(message) if self.twice(number) else first)
        if self.twice(number) and not first.has_error():
            assert first.content == self.replied[-1].content
        return self.twist(carried(self.replied[-1]), number)

    def answer(self, message):
        """One delivery. As Flower's runtime does, it forgets what a failing app did to its context."""
        node = message.metadata.dst_node_id
        context = context_from_proto(context_to_proto(self.contexts[node]))
        asked = carried(message)
        try:
            reply = carried(self.apps[node](asked, context))
        except Exception as error:
            return carried(Message(Error(2, str(error)), reply_to=message))
        self.contexts[node] = context
        return reply

    def get_node_ids(self):
        return list(self.apps)

    run = None

    def set_run(self, run): ...

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages):
        numbers = [f"{len(self.came) + i}" for i, _ in enumerate(messages)]
        for number, message in zip(numbers, messages, strict=True):
            self.came[number] = self.send_and_receive([message])
        return numbers

    def pull_messages(self, message_ids):
        found, self.came = self.came, dict(self.came)
        for number in message_ids:
            self.came[number] = []
        return [reply for number in message_ids for reply in found[number]]
