import csv

from gradwire import report
from gradwire.schemes import parse
from gradwire.studies.cells import RUNNERS
from gradwire.studies.grid import StudyCell, run_study
from gradwire.studies.own import find
from gradwire.studies.trust_membership import BEYOND, PAPER, THREE, TrustMembership

STUDY = TrustMembership()


def rows(figures, beyond=0.01):
    """A row a cell, attack and threshold; `figures(data, scheme)` gives the three balanced accuracies, in per cent."""
    made = []
    for cell in STUDY.cells():
        data, _, scheme = cell.label.partition(" ")
        for attack in (*THREE, *BEYOND):
            value = figures(data, scheme)[THREE.index(attack)] / 100 if attack in THREE else 0.6
            for threshold in ("shadow", "target"):
                row = {"label": cell.label, "attack": attack, "threshold": threshold, "balanced_accuracy": str(value)}
                rare = 0.001 if attack in THREE else beyond
                made.append(row | {"low": str(value - 0.01), "high": str(value + 0.01), "tpr_at_1e-3": str(rare)})
    return made


def claims(figures, **others):
    return {claim.says: claim for claim in STUDY.claims(rows(figures, **others))}


def test_the_grid_is_the_papers():
    cells = STUDY.cells()
    assert len(cells) == len({cell.label for cell in cells}) == 33
    for cell in cells:
        parse(*cell.settings["schemes"])
    assert isinstance(find("trust-membership:images=200,shadows=7"), TrustMembership)


def test_the_papers_own_figures_bear_out_every_sentence_and_every_cell():
    found = claims(lambda data, scheme: PAPER[data][scheme])
    assert len([claim for claim in found.values() if claim.source == "table II"]) == 99 + 1
    assert {claim.holds for claim in found.values() if claim.source == "table II"} == {True}
    assert found["CIFAR-100: topk:match_rank=1 lowers every attack"].holds
    assert found["MNIST: compression changes the attacks by less than 3 points"].holds
    assert "prediction by 10.53 points" in found["CIFAR-100: topk:match_rank=1 lowers every attack"].published
    assert "prediction by 10.53 points" in found["CIFAR-100: topk:match_rank=1 lowers every attack"].measured


def test_a_published_figure_stands_beside_the_one_measured():
    claim = claims(lambda data, scheme: (60.0, 60.0, 60.0))["CIFAR-10 none: loss"]
    assert claim.published == "55.17 %"
    assert claim.measured == "60.00 % (59.00–61.00); with a threshold from the answers 60.00 %"
    assert claim.holds is False


def test_where_everything_is_told_the_sentences_fail():
    found = claims(lambda data, scheme: (50.0 if scheme == "none" else 60.0,) * 3, beyond=0.0005)
    assert found["MNIST: every attack is within 3 points of guessing"].holds is False
    assert found["CIFAR-10: compression changes the attacks by less than 3 points"].holds is False
    assert found["CIFAR-100: topk:match_rank=2 lowers every attack"].holds is False
    says = "MNIST none: at one false alarm in 1,000, shadow models name more members than the loss does"
    assert found[says].holds is False


class Small(TrustMembership):
    """The same cells on something that is there and quick."""

    def cells(self):
        settings = {"data": "digits:train=120", "model": "mlp", "shadows": 2, "epochs": 1, "attacks": ["loss"]}
        settings |= {"population": 20, "clients": 1}
        return [
            StudyCell(f"digits {scheme}", "membership", settings | {"schemes": [scheme], "seed": 0})
            for scheme in ("none", "topk:ratio=0.1")
        ]

    def claims(self, rows):
        return ()


def test_membership_runs_are_cells_of_a_study_and_have_a_section_of_its_report(tmp_path):
    folder = run_study(Small(), RUNNERS, out=tmp_path / "run")
    with (folder / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["label"] for row in found} == {"digits none", "digits topk:ratio=0.1"}
    page = report.write(folder).read_text()
    assert "Who was in the training set?" in page
    assert (folder / "membership.svg").is_file()


def test_an_interrupted_membership_cell_goes_on(tmp_path):
    folder, settings = tmp_path / "cell", Small().cells()[0].settings
    RUNNERS["membership"](settings, folder)
    before = (folder / "results.csv").read_text()
    trained = {path: path.stat().st_mtime_ns for path in (folder / "shadows").iterdir()}
    assert trained
    RUNNERS["membership"](settings, folder)
    assert (folder / "results.csv").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "shadows").iterdir()} == trained
