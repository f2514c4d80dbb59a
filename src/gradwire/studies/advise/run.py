"""The run of `gradwire advise`: successive halving over schemes, each trained, and attacked beside `none`.

K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016: of
each rung's schemes the better half goes on to the next, where everything is twice as long. Better is a matter of three
figures here, so that Pareto layers decide. A short attack speaks for a scheme, never against it: whoever goes on
because of it meets a longer one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from math import ceil, inf, isfinite
from pathlib import Path

from gradwire import data
from gradwire.data import Dataset
from gradwire.errors import GradwireError, in_line
from gradwire.metrics.front import Point, fittest, front
from gradwire.metrics.intervals import clopper_pearson, wilson
from gradwire.metrics.links import Step, rate_of
from gradwire.progress import Progress, silent
from gradwire.report.audit.summary import Summary, summarise
from gradwire.report.audit.verdict import BREAKS, doubts
from gradwire.report.domain import RunDomain
from gradwire.report.rows import ADVISE_COLUMNS, BASELINE, number
from gradwire.runs import CELLS, CHECKPOINT, RESULTS, Row, RunFolder, check_place, read_table
from gradwire.schemes import guarantees, parse
from gradwire.studies.advise.settings import AdviseSettings, Rung
from gradwire.studies.audit import described
from gradwire.studies.grid import key_of, run_study
from gradwire.studies.plan import Study, StudyCell
from gradwire.training import TrainSettings, begin, train

PACED = 8
"""Rounds by which a step is timed."""
GRID = "grid"
"""The folder of the cells, of all rungs."""
FINAL, DROPPED, REFUSED = "screened to the end", "dropped", "could not run"
"""What became of a scheme."""
OF_THE_RUN = ("data", "model", "eval_every")
"""Of a training's cell, what `TrainSettings` does not have."""
Found = dict[str, object]


def advise(
    settings: AdviseSettings,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Path:
    """Screen the schemes and return the folder: results.csv, a row a scheme, and grid/, the cells.

    `none` is in every rung, for an attack that does not break it tells nothing. dpsgd, the yardstick, has its rates
    tried in the first rung, and is in the last.

    Args:
        resume: the folder of a screening that was cut, with the same settings: its finished cells stay.
        jobs: cells at a time.

    Raises:
        GradwireError: settings that the data do not suit, or a folder that cannot be written.
    """
    check_place(out, resume)
    dataset, held_out = (data.load(settings.data, split).under(settings.loss) for split in ("train", "test"))
    settings = settings.of(dataset.task)
    run = RunFolder.begin(out, resume, "advise", ADVISE_COLUMNS, asdict(settings))
    run.configure("advise", asdict(settings) | {"domain": described(dataset.task)}, NOTES)
    (run.path / GRID).mkdir(exist_ok=True)
    screening = Screening(settings, run.path / GRID, dataset, len(held_out), jobs, progress)
    alive, ended, rates = list(settings.screened), dict[str, Found](), dict[str, float]()
    *early, last = settings.rungs
    for rung in early:
        tried = [BASELINE, *alive, *(settings.yardsticks if rung.number == 1 else ())]
        found = screening.rung(rung, tried, rates, [BASELINE, *alive])
        rates |= {spec: float(str(row["lr"])) for spec, row in found.items() if row["lr"] != ""}
        ended |= {spec: found[spec] for spec in alive if found[spec]["state"] == REFUSED}
        alive = halved([spec for spec in alive if spec not in ended], found, settings.give_up)
        ended |= {s: row for s, row in found.items() if s not in (BASELINE, *settings.yardsticks, *alive)}
    found = screening.rung(last, tried := [BASELINE, *alive, *settings.yardsticks], rates, tried)
    final = [row | {"state": FINAL} | screening.paced(row) for row in found.values() if row["state"] != REFUSED]
    on = front([point(row) for row in final])
    refused = [row for row in found.values() if row["state"] == REFUSED]
    kept = [row | {"front": int(is_on)} for row, is_on in zip(final, on, strict=True)]
    run.rewrite([*kept, *ended.values(), *refused])
    return run.path


NOTES = (
    "A screening: one network, one seed, few victims, each with one example at an untrained network, targets known. "
    "Its figures choose what is worth an audit of its own.",
    "Learning rates were chosen by the training loss of the first rung; accuracies are of the test split. ε is of what "
    "clients send; that choice and the losses are not part of it.",
    "Compute is the time of a round over its clients, coding included: of those who came to the end the fastest of "
    f"{PACED} rounds, one scheme after another in one process; of the others the mean of all rounds.",
)


def point(row: Row, cautious: bool = True) -> Point:
    """Leakage, accuracy and cost, as they are printed, so that smaller is better.

    Args:
        cautious: what cannot be told of a scheme's leakage counts as if all victims were given away.
    """
    leaks = 1.0 if cautious and not row["told"] else number(row, "given") / number(row, "victims")
    cost = number(row, "cost")
    return leaks, -round(number(row, "test_accuracy"), 2), float(f"{cost:.2g}")


def halved(specs: Sequence[str], found: Mapping[str, Row], give_up: float) -> list[str]:
    """The better half of the schemes, in their order; those that give up too much accuracy are behind all others."""
    least = number(found[BASELINE], "test_accuracy") - give_up if found[BASELINE]["state"] != REFUSED else -inf
    points = [
        (float(number(found[spec], "test_accuracy") < least), *point(found[spec], cautious=False)) for spec in specs
    ]
    usable = [index for index, each in enumerate(points) if not each[0]]
    rest = [index for index, each in enumerate(points) if each[0]]
    places = ceil(len(specs) / 2)
    kept = [usable[i] for i in fittest([points[i] for i in usable], places)]
    kept += [rest[i] for i in fittest([points[i] for i in rest], places - len(kept))]
    return [specs[index] for index in sorted(kept)]


class Screening:
    """One screening's cells: runs rungs, and reads what they found."""

    def __init__(
        self, settings: AdviseSettings, grid: Path, dataset: Dataset, tested: int, jobs: int, progress: Progress
    ):
        self.settings, self.grid, self.dataset, self.tested = settings, grid, dataset, tested
        self.domain = RunDomain.of(described(dataset.task), str(grid))
        self.jobs, self.progress = jobs, progress

    def rung(
        self, rung: Rung, specs: Sequence[str], rates: Mapping[str, float], attacked: Sequence[str]
    ) -> dict[str, Found]:
        """A row for each scheme.

        Args:
            rates: the learning rates of those that have theirs; the others try all.
            attacked: those that are audited, too.
        """
        cells, refused = list[StudyCell](), dict[str, str]()
        for spec in specs:
            own = [self._training(spec, rung, rate) for rate in ([rates[spec]] if spec in rates else self.settings.lrs)]
            own += [self._audit(spec, rung)] if spec in attacked else []
            try:
                _ = [key_of(cell) for cell in own]
                cells += own
            except GradwireError as error:
                refused[spec] = in_line(error)
        cells.sort(key=lambda cell: cell.command)  # audits first: they take longest, and no process waits for the last
        study = Study("advise", "Which defence?", f"rung {rung.number}", tuple(cells))

        def tick(_: str, done: int, total: int) -> None:
            self.progress(f"rung {rung.number}", done, total)

        run_study(study, resume=self.grid, jobs=self.jobs, progress=tick)
        rows = read_table(self.grid / RESULTS)
        good = [row for row in rows if not row["failed"]]
        audited = [row for row in good if row["command"] == "audit"]
        summaries, parts = (summarise(audited, self.domain, parts) for parts in (False, True))
        found = dict[str, Found]()
        for spec in specs:
            errors = [row["failed"] for row in rows if row["label"] == spec and row["failed"]]
            trained = [row for row in good if (row["label"], row["command"]) == (spec, "train")]
            leaks = [each for each in summaries if each.scheme == spec]
            row = self._common(spec, rung)
            if spec in refused or not trained or (spec in attacked and not leaks):
                row |= {"state": REFUSED, "why": refused.get(spec) or "; ".join(dict.fromkeys(errors))}
            else:
                row |= self._trained(min(trained, key=_loss), rung)
                row |= self._leaked(leaks, summaries, parts) if leaks else {}
                row |= {"state": DROPPED, "why": f"rung {rung.number}"}
            found[spec] = row
        return found

    def _common(self, spec: str, rung: Rung) -> Found:
        settings = self.settings
        told: Found = {name: getattr(settings, name) for name in ("data", "model", "seed", "device")}
        return dict.fromkeys(ADVISE_COLUMNS, "") | told | {"scheme": spec, "rung": rung.number}

    def _training(self, spec: str, rung: Rung, rate: float) -> StudyCell:
        names = ("data", "model", "loss", "clients", "batch_size", "seed", "device")
        own = {name: getattr(self.settings, name) for name in names}
        sampling = "poisson" if spec in self.settings.yardsticks else "shuffle"
        own |= {"scheme": spec, "rounds": rung.rounds, "eval_every": rung.rounds, "lr": rate, "sampling": sampling}
        return StudyCell(spec, "train", own)

    def _audit(self, spec: str, rung: Rung) -> StudyCell:
        names = ("data", "model", "loss", "clients", "knowledge", "seed", "device")
        own = {name: getattr(self.settings, name) for name in names}
        return StudyCell(spec, "audit", own | {"schemes": [spec], "samples": rung.samples, "attacks": [rung.attack]})

    def _trained(self, row: Mapping[str, str], rung: Rung) -> Found:
        """Accuracy, and what a client's step costs."""
        steps = rung.rounds * self.settings.clients
        accuracy = float(row["test_accuracy"])
        low, high = wilson(accuracy, self.tested)
        seconds, up, down = (float(row[name]) / steps for name in ("seconds", "bytes_up", "bytes_down"))
        return {
            **{"lr": float(row["lr"]), "rounds": rung.rounds, "seconds": seconds, "ratio": float(row["ratio"])},
            **{"bytes_up": up, "bytes_down": down, "cost": self._cost(seconds, up + down)},
            **{"test_accuracy": accuracy, "accuracy_low": low, "accuracy_high": high},
            **self._guarantee(row, rung),
        }

    def _cost(self, seconds: float, size: float) -> float:
        """Bytes both ways, or a step's time: down follows up, so that the link carries one after the other."""
        link = self.settings.link
        return Step("", seconds, 0.0, size, 0).seconds(rate_of(link), 0.0) if link else size

    def paced(self, row: Row) -> Found:
        """A scheme's cost by the fastest of a few rounds that nothing of ours runs beside, for all of them alike."""
        how = self._settings(self._training(str(row["scheme"]), Rung(0, PACED, 1, ""), float(row["lr"])))
        state = begin(how, self.dataset.network(self.settings.model, self.settings.seed))
        seconds = [0.0]
        train(state, how, self.dataset, after_round=lambda state, _: seconds.append(state.seconds))
        fastest = min(b - a for a, b in pairwise(seconds)) / self.settings.clients
        return {"seconds": fastest, "cost": self._cost(fastest, number(row, "bytes_up") + number(row, "bytes_down"))}

    def _settings(self, cell: StudyCell) -> TrainSettings:
        return TrainSettings(**{name: value for name, value in cell.settings.items() if name not in OF_THE_RUN})

    def _guarantee(self, row: Mapping[str, str], rung: Rung) -> Found:
        """What the training has spent of its privacy, about single examples."""
        scheme = parse(row["label"])
        if scheme.accounting is None:
            return {}
        how = self._settings(self._training(row["label"], rung, float(row["lr"])))
        state = begin(how, self.dataset.network(self.settings.model, self.settings.seed))
        state.restore(self.grid / CELLS / row["cell"] / CHECKPOINT, how)
        try:
            told = guarantees(scheme, state.private)
        except GradwireError as error:
            return {"guarantee": in_line(error)}
        if not told:
            return {}
        return {"epsilon": told[0].epsilon, "delta": told[0].delta, "guarantee": str(told[0])}

    def _leaked(self, leaks: Sequence[Summary], summaries: Sequence[Summary], parts: Sequence[Summary]) -> Found:
        """What the strongest attack gives away, and whether its failures can be believed."""
        most = max(leaks, key=lambda each: (each.success, self.domain.gain(each.worst, 0)))
        given = round(most.success * most.victims)
        low, high = clopper_pearson(given, most.victims)
        sure = most.success >= BREAKS if most.scheme == BASELINE else given == most.victims
        why = [] if sure else doubts(most, summaries, parts)
        sums = parse(most.scheme).sums_only
        return {
            **{"victims": most.victims, "given": given, "low": float(low), "high": float(high)},
            **{"worst": most.worst, "score": most.score, "knowledge": most.knowledge, "doubts": "; ".join(why)},
            **{"told": int(not why), "summed": self.settings.clients if sums else 1},
        }


def _loss(row: Row) -> float:
    """The mean training loss; of a run that left the numbers behind, infinity."""
    loss = number(row, "train_loss")
    return loss if isfinite(loss) else inf
