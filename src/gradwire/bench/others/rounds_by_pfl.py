"""Rounds under pfl: python rounds_by_pfl.py FOLDER (see `job`)."""

import sys
import time

import job
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Network(nn.Module):
    """The network as pfl wants it."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def loss(self, images: Tensor, labels: Tensor, eval: bool = False) -> Tensor:
        """Mean cross-entropy."""
        self.train(not eval)
        return cross_entropy(self.layers(images), labels)

    def metrics(self, images: Tensor, labels: Tensor, eval: bool = False) -> dict[str, Weighted]:
        """None: nothing but training is timed."""
        return {}


class Clock(TrainingProcessCallback):
    """When the first round began and each round ended."""

    def __init__(self) -> None:
        self.ends = [time.perf_counter()]

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):  # type: ignore[no-untyped-def]  # noqa: D102
        self.ends.append(time.perf_counter())
        return False, Metrics()


def main(folder: str) -> None:
    """All rounds."""
    task = job.read(folder)
    rounds, cohort, _, size = task.plan.shape
    seats = iter([(r, c) for r in range(rounds) for c in range(cohort)])

    def dataset(seat: tuple[int, int]) -> Dataset:
        where = task.plan[seat].flatten()
        return Dataset(raw_data=[task.images[where], task.labels[where]])

    users = FederatedDataset(dataset, lambda: next(seats, (0, 0)))
    network, clock = Network(task.network()), Clock()
    params = NNAlgorithmParams(
        central_num_iterations=rounds, evaluation_frequency=rounds + 1, train_cohort_size=cohort, val_cohort_size=0
    )
    FederatedAveraging().run(
        algorithm_params=params,
        backend=SimulatedBackend(training_data=users, val_data=users),
        model=PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0)),
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=task.lr, local_batch_size=size),
        model_eval_params=NNEvalHyperParams(local_batch_size=size),
        callbacks=[clock],
    )
    job.finish(folder, clock.ends, network.layers.state_dict())


if __name__ == "__main__":
    main(sys.argv[1])
