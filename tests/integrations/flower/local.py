"""Flower's apps in one process: every message and every client's state goes through Flower's own serialisation."""

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import context_from_proto, context_to_proto, message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["ArrayRecord", "ClientApp", "ConfigRecord", "LocalGrid", "Message", "MetricRecord", "RecordDict"]


def carried(message):
    return message_from_proto(message_to_proto(message))


class LocalGrid(Grid):
    """Delivers messages to one ClientApp a node, at once; counts the bytes of ConfigRecords on their way."""

    def __init__(self, apps):
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.apps = apps
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in apps}
        self.silent = set()
        self.delivered = []

    def send_and_receive(self, messages, *, timeout=None):
        heard = (message for message in messages if message.metadata.dst_node_id not in self.silent)
        return [self._answer(carried(message)) for message in heard]

    def _answer(self, message):
        node = message.metadata.dst_node_id
        self.delivered.append(message)
        context = context_from_proto(context_to_proto(self.contexts[node]))
        asked = carried(message)
        try:
            reply = carried(self.apps[node](asked, context))
        except Exception as error:  # as Flower's runtime does
            return carried(Message(Error(2, str(error)), reply_to=message))
        self.contexts[node] = context
        self.delivered.append(carried(reply))
        return reply

    def get_node_ids(self):
        return list(self.apps)

    run = None

    def set_run(self, run): ...

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages): ...

    def pull_messages(self, message_ids): ...
