import csv

from gradwire import report
from gradwire.studies.cells import COMMANDS
from gradwire.studies.grid import run_study
from gradwire.studies.plan import Study

SETTINGS = {
    **{"data": "digits:train=120", "model": "mlp", "shadows": 2, "epochs": 1, "attacks": ["loss"]},
    **{"population": 20, "clients": 1},
}
SMALL = {"command": "membership", "settings": SETTINGS, "grid": {"scheme": ["none", "topk:ratio=0.1"]}}


def test_membership_runs_are_cells_of_a_study_and_have_a_section_of_its_report(tmp_path):
    folder = run_study(Study.of("small", SMALL), out=tmp_path / "run")
    with (folder / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["label"] for row in found} == {"none", "topk:ratio=0.1"}
    page = report.write(folder).read_text()
    assert "Who was in the training set?" in page
    assert (folder / "membership.svg").is_file()


def test_an_interrupted_membership_cell_goes_on(tmp_path):
    folder, settings = tmp_path / "cell", Study.of("small", SMALL).cells[0].settings
    COMMANDS["membership"](settings, folder)
    before = (folder / "results.csv").read_text()
    trained = {path: path.stat().st_mtime_ns for path in (folder / "shadows").iterdir()}
    assert trained
    COMMANDS["membership"](settings, folder)
    assert (folder / "results.csv").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "shadows").iterdir()} == trained
