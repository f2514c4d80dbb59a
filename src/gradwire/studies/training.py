"""The train command's run: rounds of training, a row every so often, a checkpoint beside each row."""

from dataclasses import asdict
from pathlib import Path

from gradwire import data, models
from gradwire.errors import GradwireError
from gradwire.report import TRAIN_COLUMNS
from gradwire.schemes import Layout
from gradwire.studies.run import CHECKPOINT, Progress, RunFolder, silent
from gradwire.training import TrainingState, TrainSettings, begin, evaluate, train


def run_training(
    data_name: str,
    model_name: str,
    settings: TrainSettings,
    *,
    eval_every: int = 20,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Train and return the folder that it wrote: results.csv, config.json, checkpoint.

    A row holds the mean training loss since the last row, and bytes and seconds from the start.

    Args:
        data_name: name or folder of the data set.
        model_name: name of the network or `package.module:factory`.
        settings: of the training.
        eval_every: rounds between two rows.
        out: the folder to write; `resume`: the folder of an earlier run to go on with instead.

    Raises:
        GradwireError: settings that cannot be met, a folder that cannot be written or does not hold this run.
    """
    if eval_every < 1:
        raise GradwireError(f"eval_every is {eval_every}; it must be at least 1")
    if out and resume:
        raise GradwireError("--out and --resume exclude each other: a resumed run writes where it wrote before")
    dataset, held_out = data.load(data_name, "train"), data.load(data_name, "test")
    model = models.build(model_name, dataset.shape, dataset.num_classes, dataset.mean, dataset.std, settings.seed)
    state = begin(settings, model)
    options = {"data": data_name, "model": model_name, "eval_every": eval_every, **asdict(settings)}
    if resume:
        state.restore(Path(resume) / CHECKPOINT, settings)
        run = RunFolder.reopen(resume, TRAIN_COLUMNS, keep=state.round)
    else:
        run = RunFolder.create(out, "train", TRAIN_COLUMNS)
    run.configure("train", options)
    dense = 4 * Layout.of_model(model).size * settings.clients
    losses: list[float] = []

    def after_round(state: TrainingState, loss: float) -> None:
        losses.append(loss)
        progress("training", state.round, settings.rounds)
        if state.round % eval_every and state.round != settings.rounds:
            return
        test_loss, accuracy = evaluate(state.model, held_out, settings.device)
        row = {
            "data": data_name,
            "model": model_name,
            "scheme": settings.scheme,
            "seed": settings.seed,
            "device": settings.device,
            "seconds": round(state.seconds, 3),
            "bytes_up": state.bytes_up,
            "bytes_down": state.bytes_down,
            "ratio": dense * state.round / state.bytes_up,
            "round": state.round,
            "epoch": state.round * settings.clients * settings.batch_size / len(dataset),
            "train_loss": sum(losses) / len(losses),
            "test_loss": test_loss,
            "test_accuracy": accuracy,
        }
        losses.clear()
        state.save(run.path / CHECKPOINT, settings)
        run.append([row])

    train(state, settings, dataset, after_round=after_round)
    return run.path
