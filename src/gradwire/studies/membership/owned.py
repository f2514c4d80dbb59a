"""Judge a trained model, with the lists of its members and of non-members: shadows only if asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gradwire import data
from gradwire.attacks.membership import Answers, MembershipAttack, Signals, attack
from gradwire.data import Dataset
from gradwire.data.dataset import fingerprints
from gradwire.errors import GradwireError
from gradwire.metrics import Scored
from gradwire.progress import Progress, silent
from gradwire.report.rows import AS_GIVEN
from gradwire.runs import Row, RunFolder
from gradwire.studies.audit import described
from gradwire.studies.membership.evidence import Entry
from gradwire.studies.membership.judging import ATTACKS, COMPARING, entries_of
from gradwire.studies.membership.publish import publish
from gradwire.studies.membership.queries import query
from gradwire.studies.membership.rows import COLUMNS, health
from gradwire.studies.membership.settings import ENOUGH, MembershipSettings
from gradwire.studies.membership.shadow_batches import one_file_each
from gradwire.studies.membership.shadow_experiment import ShadowExperiment, halves
from gradwire.studies.membership.verdicts import judged, on_answers

COPIES = 0.01
"""The share of non-members that may be copies of members, as data sets have them; they are left out."""

DECISIVE = ("data", "model", "loss", "seed", "augment", "confidence")
TRAINING = ("epochs", "clients", "partition", "batch_size", "lr", "momentum", "weight_decay", "optimizer", "schedule")
"""Settings that decide what is judged, and what shadows are."""


def judge_model(
    checkpoint: str | Path,
    members: str,
    nonmembers: str,
    settings: MembershipSettings,
    shadows: int = 0,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Attack a model that is there, and return the run's folder.

    Args:
        checkpoint: the parameters of `settings.model`: a state dict (safetensors, or torch's own), or a checkpoint of
            `gradwire train`.
        members: what the model was trained on: "train", the training split, or a file with the numbers of its examples,
            one a line, the first of which is 0.
        nonmembers: others like them: "test", or a file with numbers of training examples as well.
        settings: the data, the model and, for shadows, the training.
        shadows: how many to train, each on a random half of members and non-members together, as the settings say.
        out: the folder to write; `resume`: that of an interrupted run, whose finished shadows stay.

    Raises:
        GradwireError: lists that overlap or do not fit, a checkpoint of another model.
    """
    train, test = (data.load(settings.data, split).under(settings.loss) for split in ("train", "test"))
    settings = settings.of(train.task)
    chosen = [_listed(which, name, train, test) for which, name in ((members, "members"), (nonmembers, "nonmembers"))]
    chosen[1], repeated = _apart(*chosen)
    inputs, targets = (torch.cat([getattr(each, what) for each in chosen]) for what in ("inputs", "targets"))
    pool = replace(train, inputs=inputs, targets=targets)
    inside = torch.arange(len(pool)) < len(chosen[0])
    network = _restored(Path(checkpoint), train.network(settings.model, 0))
    if shadows and shadows < 2 * (ENOUGH + 1):
        raise GradwireError(f"shadows is {shadows}; attacks that compare a model with them need {2 * (ENOUGH + 1)}")
    options = {"checkpoint": str(checkpoint), "members": members, "nonmembers": nonmembers, "shadows": shadows}
    options |= {name: getattr(settings, name) for name in (*DECISIVE, *(TRAINING if shadows else ()))}
    run = RunFolder.begin(out, resume, "membership", COLUMNS, options)
    if not resume:
        run.configure("membership", options)
    own = query(network.to(settings.device), pool, settings.augment, settings.device)
    shared: Row = dict.fromkeys(COLUMNS, "") | {
        **{name: getattr(settings, name) for name in ("data", "model", "seed", "device")},
        **{"scheme": AS_GIVEN, "targets": 1},
        **health("train", _accuracy(own, inside)),
        **health("test", _accuracy(own, ~inside)),
    }
    kind = "probabilities" if train.task.loss.probabilities else "loss"
    classes = bool(train.classes)
    answers = Answers(own.each(lambda t: t[None]), inside[None], pool.targets)
    entries, said = entries_of(answers, torch.ones(1, len(pool), dtype=torch.bool), ATTACKS[kind], shared, classes)
    if shadows:
        compared, more = _compared(settings, pool, own, inside, shadows, run, progress)
        entries = [*compared, *(_only(entry, compared[0].scored.asked) for entry in entries)] if compared else entries
        entries = [Entry({**shared, **entry.row}, entry.scored) for entry in entries]
        said += more
    counts = " and ".join(f"{len(each)} {name}" for each, name in zip(chosen, ("members", "non-members"), strict=True))
    told = [f"{counts} of one model were judged, with {shadows} shadows."]
    told += [f"{repeated} non-members that repeat members were left out."] if repeated else []
    everything = options | {"domain": described(train.task)}
    publish(run, entries, (), everything, [*told, *said], settings.confidence, settings.seed)
    return run.path


def _compared(
    settings: MembershipSettings,
    pool: Dataset,
    own: Signals,
    inside: Tensor,
    shadows: int,
    run: RunFolder,
    progress: Progress,
) -> tuple[list[Entry], list[str]]:
    """Entries of attacks that compare the model with shadows, and warnings."""
    nobody = torch.zeros(0, dtype=torch.int64)
    drawn = halves(shadows, len(pool), nobody, settings.seed)
    trained = replace(settings, shadows=shadows, schemes=("none",), attacks=("loss",), canaries="")
    experiment = ShadowExperiment(trained, pool, pool, pool.part(torch.arange(1)), nobody, drawn, 0)
    records = one_file_each(experiment, "none", run.path, progress)
    others = Signals(**{name: torch.stack([record[name] for record in records]) for name in own.known})
    both = Signals.joined([own.each(lambda t: t[None]), others], torch.cat)
    answers = Answers(both, torch.cat([inside[None], drawn]), pool.targets)
    several: list[MembershipAttack] = [attack(spec) for spec in COMPARING]  # type: ignore[misc]
    asked = judged(answers, several, True)
    asked[1:] = False
    found = []
    for each in several:
        for kind, scored in on_answers(answers, each, ("shadow", "target"), asked).items():
            found.append(Entry({"attack": each.spec, "threshold": kind}, scored))
    theirs = [_accuracy(Signals(**{n: r[n] for n in own.known}), m) for r, m in zip(records, drawn, strict=True)]
    accuracies, mine = [value for each in theirs for value in each], _accuracy(own, inside)
    said = []
    if mine and not min(accuracies) <= mine[0] <= max(accuracies):
        between = f"those of its shadows lie between {min(accuracies):.2f} and {max(accuracies):.2f}"
        said.append(f"The model's accuracy on its members is {mine[0]:.2f}; {between}, so it was trained otherwise.")
    return found, said


def _only(entry: Entry, asked: Tensor) -> Entry:
    """The entry on the pairs that attacks with shadows can judge, so that a table is about the same."""
    scored = entry.scored
    return Entry(entry.row, Scored.of(scored.scores, scored.members, asked, scored.limits, scored.models))


def _listed(which: str, name: str, train: Dataset, test: Dataset) -> Dataset:
    if which in ("train", "test"):
        return train if which == "train" else test
    try:
        lines = np.loadtxt(which, dtype=float, ndmin=1)
    except (OSError, ValueError) as error:
        raise GradwireError(f"--{name} {which}: {error}; give train, test, or numbers of examples one a line") from None
    if not len(lines) or (lines != lines.round()).any() or (lines < 0).any() or (lines >= len(train)).any():
        wrong = next((f"{x:g}" for x in lines if x != round(x) or not 0 <= x < len(train)), "no number")
        raise GradwireError(f"--{name} {which} holds {wrong}; training examples are numbered 0 to {len(train) - 1}")
    places = torch.from_numpy(lines.astype(np.int64))
    if len(places.unique()) < len(places):
        raise GradwireError(f"--{name} {which} names an example twice; each may be named once")
    return train.part(places)


def _apart(members: Dataset, nonmembers: Dataset) -> tuple[Dataset, int]:
    """The non-members without copies of members, and how many these were; many are a mistake."""
    first = set(fingerprints(members))
    others = torch.tensor([digest not in first for digest in fingerprints(nonmembers)])
    copies = int((~others).sum())
    if copies > COPIES * len(others):
        share = f"{copies} of {len(others)} non-members are members too"
        raise GradwireError(f"{share}; the lists may not overlap (copies up to {100 * COPIES:g} % are left out)")
    return nonmembers.part(others), copies


def _restored(path: Path, network: nn.Module) -> nn.Module:
    try:
        tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:
        raise GradwireError(f"--checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from None
    if any(name.startswith("model/") for name in tensors):
        tensors = {n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")}
    try:
        network.load_state_dict(tensors)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise GradwireError(f"--checkpoint {path} is of another model: {str(error).splitlines()[-1].strip()}") from None
    return network


def _accuracy(signals: Signals, chosen: Tensor) -> list[float]:
    if signals.top is None:
        return []
    return [float((signals.label == signals.top)[chosen, 0].double().mean())]
