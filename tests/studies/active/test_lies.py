"""Each lie gives the server one client's update by the papers' protocol, and nothing by default."""

import csv

import pytest
import torch

from gradwire import data, report
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.schemes import parse
from gradwire.studies import AuditSettings
from gradwire.studies.active import active_audit
from gradwire.studies.active.audit import LIES
from gradwire.studies.active.scene import Scene, play
from gradwire.wire import indices

CLIENTS, COLLUDERS = 6, 2
PAPER, OURS = "binding=false,threshold=4", "threshold=5"
"""The least thresholds: n/2 + 1, and (n + c)/2 + 1."""
SPARSE = "compression=20,"


def scene(spec):
    dataset = data.load("digits", "test")
    batches = [dataset.batch(range(4 * i, 4 * i + 4)) for i in range(CLIENTS)]
    model = dataset.network("mlp", 0, False).eval()
    return Scene(parse(spec), model, dataset.task, batches, COLLUDERS)


CASES = [
    ("split R_max", "sga:binding=false", "sga"),
    ("split R_max", "sga:binding=false,max=largest", "sga:max=largest"),
    ("split R_max", "sga:binding=false,bits=16", "sga:bits=16"),
    ("split R_max", f"sga:{PAPER}", f"sga:{OURS}"),
    ("split R_max", f"ssga:{SPARSE}{PAPER}", f"ssga:{SPARSE}{OURS}"),
    ("split R_max", f"ssga-dgc:{SPARSE}binding=false", f"ssga-dgc:{SPARSE[:-1]}"),
    ("split union", f"ssga:{SPARSE}binding=false", f"ssga:{SPARSE[:-1]}"),
    ("split union", f"ssga:{SPARSE}{PAPER}", f"ssga:{SPARSE}{OURS}"),
    ("split survivors", f"sga:{PAPER}", f"sga:{OURS}"),
    ("split survivors", f"ssga:{SPARSE}{PAPER}", f"ssga:{SPARSE}{OURS}"),
    ("other models", "sga:binding=false", "sga"),
    ("other models", f"sga:{PAPER}", f"sga:{OURS}"),
    ("LOKI", "sga:binding=false", "sga"),
]


@pytest.mark.parametrize(("lie", "paper", "ours"), CASES)
def test_a_lie_succeeds_by_the_papers_protocol_and_fails_by_default(lie, paper, ours):
    run, _ = LIES[lie]
    assert run(scene(paper)).correlation > 0.9
    assert abs(run(scene(ours)).correlation) < 0.6


@pytest.mark.parametrize("spec", ["sga", f"sga:{OURS}", f"sga:{PAPER}", f"ssga:{SPARSE}{OURS}"])
@pytest.mark.parametrize("lie", ["shrunk neighbourhood", "replay"])
def test_these_never_did(lie, spec):
    run, _ = LIES[lie]
    gain = run(scene(spec))
    assert gain.refusals
    assert abs(gain.correlation) < 0.6


@pytest.mark.parametrize("options", ["max=9.0", "threshold=5", "union=anonymous"])
@pytest.mark.parametrize("lie", ["longer", "lacking"])
def test_no_client_goes_on_with_a_union_that_cannot_be(options, lie):
    """In whole rounds: one longer than all choices together, one without any entry that was chosen."""
    attacked = scene(f"ssga:{SPARSE}{options}")
    size = sum(p.numel() for p in attacked.model.parameters())
    longest = size // 20 // CLIENTS * CLIENTS

    def said(played, phase, party, tensors):
        if "indices" not in tensors:
            return tensors
        union = indices.decode(tensors["indices"], int(tensors["count"]), size)
        rest = torch.ones(size).index_fill_(0, union, 0).nonzero()[:, 0]
        told = torch.arange(longest + 1) if lie == "longer" else rest[:longest]
        return {**tensors, "indices": indices.encode(told, size), "count": torch.tensor(len(told))}

    played = play(attacked, said)
    why = "the choices of all have" if lie == "longer" else "the union lacks"
    assert sum(why in refusal for refusal in played.refusals) == CLIENTS
    assert "masked" not in played.uploads
    assert played.sum is None


def test_an_imprint_that_all_get_alike_is_not_stopped_by_binding():
    assert LIES["imprint"][0](scene("sga")).correlation > 0.9


def test_the_audit_shows_both_protocols(tmp_path):
    settings = AuditSettings(data="digits", model="mlp", adversary="active", schemes=("sga:threshold=5",))
    folder = active_audit(settings, tmp_path / "run")
    rows = list(csv.DictReader((folder / "results.csv").open()))
    won = {(row["lie"], "binding=false" in row["scheme"]) for row in rows if row["succeeds"] == "1"}
    before = {"split R_max", "split survivors", "other models", "LOKI", "imprint"}
    assert won == {*((lie, True) for lie in before), ("imprint", False)}
    report.write(folder)
    assert "against bound masks: imprint" in (folder / "report.html").read_text()


def test_plain_schemes_are_refused(tmp_path):
    with pytest.raises(GradwireError, match="adversary 'active' lies in secure sums; topk"):
        active_audit(AuditSettings(data="digits", adversary="active", schemes=("topk:ratio=0.1",)), tmp_path / "run")
    with pytest.raises(SystemExit):
        main(["audit", "--adversary", "active", "--scheme", "none", "--out", str(tmp_path / "other")])
