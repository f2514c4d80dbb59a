"""Rounds of plain Flower and of schemes side by side.

`python -m tests.integrations.flower.beside_plain [NODES] [PARAMETERS]`.

Nodes are asked one after another in one process, and their states lie in files, so that what is measured of memory is
the server's: bytes are those of Flower's own objects, which its SuperLink stores and forwards.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from flwr.app import Context
from flwr.common.serde import context_from_proto, context_to_proto
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from gradwire.integrations.flower import SchemeGrid
from tests.integrations.flower.local import ArrayRecord, LocalGrid, RecordDict, app

ROUNDS = 3


class MeasuredGrid(LocalGrid):
    """Answers when it is asked for answers, and counts.

    Attributes:
        up, down: bytes of Flower's objects of training; `trips`, questions.
        held: the largest state that a node has had between two messages.
    """

    def __init__(self, apps, folder):
        super().__init__(apps)
        self.folder, self.up, self.down, self.trips, self.held, self.due = Path(folder), 0, 0, 0, 0, {}
        self.contexts = {}

    def push_messages(self, messages):
        self.trips += any(message.metadata.message_type == "train" for message in messages)
        numbers = [f"{self.trips}-{i}" for i, _ in enumerate(messages)]
        self.due |= dict(zip(numbers, messages, strict=True))
        return numbers

    def pull_messages(self, message_ids):
        return [self.answered(self.due.pop(number)) for number in message_ids if number in self.due]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(list(messages)))

    def answered(self, message):
        node = message.metadata.dst_node_id
        kept = self.folder / str(node)
        state = context_from_proto(ContextProto.FromString(kept.read_bytes())).state if kept.exists() else RecordDict()
        self.contexts = {node: Context(1, node, {}, state, {})}
        self.down += size(message)
        reply = self.answer(message)
        self.up += size(reply)
        data = context_to_proto(self.contexts.pop(node)).SerializeToString()
        self.held = max(self.held, len(data))
        kept.write_bytes(data)
        assert not reply.has_error(), reply.error.reason
        return reply


def size(message):
    """Bytes of a message as Flower stores and sends it."""
    objects = get_all_nested_objects(message)
    return sum(len(each.deflate()) for each in objects.values())


def change(node, round, arrays):
    g = torch.Generator().manual_seed(1000 * node + round)
    return {name: tensor + torch.randn(tensor.shape, generator=g) for name, tensor in arrays.items()}


def measured(spec, nodes, parameters):
    """One run's figures."""
    with tempfile.TemporaryDirectory() as folder:
        own = None if spec == "plain" else spec
        inner = MeasuredGrid({node: app(own, node + 1, change, 10, node) for node in range(nodes)}, folder)
        grid = inner if own is None else SchemeGrid(inner, own, examples=10.0)
        start = ArrayRecord({"w": torch.zeros(parameters // 1000, 1000)})
        strategy = FedAvg(min_train_nodes=nodes, min_available_nodes=nodes, fraction_evaluate=0.0)
        before, used = time.perf_counter(), time.process_time()
        strategy.start(grid, start, num_rounds=ROUNDS)
        seconds, processor = time.perf_counter() - before, time.process_time() - used
    model, times = 4 * parameters, nodes * ROUNDS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    wire = "" if own is None else f", objects {inner.up / grid.transcript.bytes_up():.4f} of the transcript's bytes up"
    return (
        f"{spec:24} {nodes} nodes, {parameters:,} parameters: {inner.up / times / model:.4f} models up, "
        f"{inner.down / times / model:.4f} down a client and round, {inner.trips / ROUNDS:.2f} trips a round, "
        f"{seconds / ROUNDS:.2f} s a round ({processor / ROUNDS:.2f} s of the processor), "
        f"{inner.held / model:.2f} models held by a node, "
        f"peak {peak / model:.1f} models{wire}"
    )


if __name__ == "__main__":
    if len(sys.argv) > 3:
        print(measured(sys.argv[3], int(sys.argv[1]), int(sys.argv[2])), flush=True)
        sys.exit()
    size_of = [*sys.argv[1:], "8", "10000000"][:2]
    for each in ("plain", "none", "topk:ratio=0.01", "powersgd:rank=4", "qsgd"):
        subprocess.run([sys.executable, "-m", "tests.integrations.flower.beside_plain", *size_of, each], check=True)
