"""Rounds under Flower's simulation engine: python rounds_by_flower.py FOLDER (see `job`)."""

import sys
import time
from collections.abc import Iterable

import job
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

CORES = 1.0
"""Of a client: as many clients run at a time as the machine has cores."""


class Planned(FedAvg):
    """FedAvg that tells each client of a round whose data to take, and notes when the round began."""

    def __init__(self, cohort: int):
        super().__init__(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=cohort, min_available_nodes=cohort)
        self.cohort, self.begun = cohort, list[float]()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message a client."""
        while len(nodes := list(grid.get_node_ids())) < self.cohort:
            time.sleep(0.1)
        self.begun.append(time.perf_counter())
        for place, node in enumerate(nodes[: self.cohort]):
            whose = ConfigRecord({"round": server_round - 1, "place": place})
            content = RecordDict({"arrays": arrays, "config": whose})
            yield Message(content, dst_node_id=node, message_type=MessageType.TRAIN)


def main(folder: str) -> None:
    """All rounds, timed from the message that begins each to that of the next."""
    client, server, task = ClientApp(), ServerApp(), job.read(folder)
    rounds, cohort = task.plan.shape[:2]

    @client.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        own, whose = job.read(folder), message.content["config"]
        network = own.network()
        network.load_state_dict(message.content["arrays"].to_torch_state_dict())
        loss = job.work(network, own, own.plan[whose["round"], whose["place"]])
        metrics = MetricRecord({"loss": loss, "num-examples": int(own.plan[0, 0].numel())})
        content = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics})
        return Message(content=content, reply_to=message)

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy = Planned(cohort)
        result = strategy.start(grid=grid, initial_arrays=ArrayRecord(task.start), num_rounds=rounds)
        job.finish(folder, [*strategy.begun, time.perf_counter()], result.arrays.to_torch_state_dict())

    resources = {"client_resources": {"num_cpus": CORES, "num_gpus": 0.0}}
    run_simulation(server, client, num_supernodes=cohort, backend_config=resources)


if __name__ == "__main__":
    main(sys.argv[1])
