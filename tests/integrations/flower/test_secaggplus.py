"""What Flower's own SecAgg+ believes of a server, and what it does to values: by its own two halves."""

import csv

import numpy as np
import pytest

pytest.importorskip("flwr")

from gradwire import data
from gradwire.cli import main
from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower.secaggplus import Nodes, SecAggPlus, honest_round
from gradwire.schemes import parse
from gradwire.secure.conformance import examine
from gradwire.studies.active.flower import FLOWER_LIES, FlowerScene
from gradwire.studies.active.scene import Scene
from gradwire.studies.active.subjects import FlowerSum

CLIENTS, COLLUDERS = 6, 2
TERMS = SecAggPlus()


@pytest.fixture(scope="module")
def scene():
    digits = data.load("digits", "test")
    batches = [digits.batch(range(4 * i, 4 * i + 4)) for i in range(CLIENTS)]
    model = digits.network("mlp", 0, False).eval()
    return FlowerScene(TERMS, Scene(parse("sga"), model, digits.task, batches, COLLUDERS))


@pytest.mark.parametrize("lie", FLOWER_LIES)
def test_which_lies_give_the_server_one_clients_update(scene, lie):
    gain = FLOWER_LIES[lie][0](scene)
    if lie == "none":
        assert 0.2 < gain.correlation < 0.7
    elif lie == "replay":
        assert gain.found is None
        assert "expect setup stage, but receive unmask" in gain.refusals[0]
    else:
        assert gain.correlation > 0.99
        largest = gain.truth.abs().max()
        assert (gain.found - gain.truth).abs().max() < 0.01 * largest


def test_an_honest_round_is_the_weighted_mean():
    def train(node, arrays):
        return [array + node for array in arrays], 100 * node

    start = [np.zeros((2, 3), np.float32), np.zeros((), np.float32)]
    found = honest_round(TERMS, Nodes(4, train), start).mean
    weighted = sum(node * node for node in range(1, 5)) / sum(range(1, 5))
    assert found[0].shape == (2, 3)
    assert np.allclose(found[0], weighted, atol=1e-3)
    assert abs(found[1] - weighted) > 1, "Flower's workflow does not rescale arrays without dimensions"


def test_a_node_that_refuses_is_named():
    nodes = Nodes(3, lambda node, arrays: (arrays, 1))
    with pytest.raises(WireError, match=r"node 1, stage 'share_keys': ValueError: Abort secure aggregation"):
        nodes.ask(1, "share_keys", {})


@pytest.mark.filterwarnings("ignore:invalid value")  # NaN becomes an integer
def test_what_its_rounds_do_to_values():
    findings = {finding.check: finding for finding in examine(FlowerSum(TERMS, CLIENTS), CLIENTS)}
    failed = {check: finding.detail for check, finding in findings.items() if not finding.passed}
    for check, detail in {
        "seed_entropy": "flipping bytes [0, 16] of the seed gives the mask of no flip",
        "trusted_generator": "mt19937 is not one of",
        "disjoint_shares": "it reveals both secrets of {3}",
        "side_channels": "num_examples",
        "overflow_bound": "2000 extremes make 8388608000, the modulus is 4294967296",
        "not_finite": "nan of one client is taken for a number",
        "saturation": "the mean of one 100 and 5 ones is 2.167, not 17.5, and nobody is told",
        "scalars": "the mean of 6 times 0.5, without dimensions, is",
        "dropouts": "a client that vanishes before it sends ends the round: setup, share_keys",
        "width": "64.0 bits an entry, the modulus has 32",
    }.items():
        assert detail in failed.pop(check)
    assert not failed


@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_audit_shows_both(tmp_path, capsys):
    spec = "flower-secaggplus:threshold=4"
    asked = [
        "audit",
        "--data",
        "digits",
        "--adversary",
        "active",
        "--model",
        "mlp",
        "--scheme",
        "sga:threshold=5",
        "--against",
        spec,
    ]
    main([*asked, "--out", str(tmp_path / "run")])
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    theirs = {row["lie"] for row in rows if row["scheme"] == spec and row["succeeds"] == "1" and row["correlation"]}
    ours = {row["lie"] for row in rows if row["scheme"] == "sga:threshold=5" and row["succeeds"] == "1"}
    assert theirs == set(FLOWER_LIES) - {"none", "replay"}
    assert ours == {"imprint", "side channels"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "against flower-secaggplus: both lists, false keys" in page
    assert "in the clear: maximum" in capsys.readouterr().out


def test_software_that_is_not_known_is_refused():
    from gradwire.studies import AuditSettings
    from gradwire.studies.active import active_audit

    settings = AuditSettings(data="digits", model="mlp", adversary="active", schemes=("sga",))
    for against, wrong in (("pysyft", "must be flower-secaggplus"), ("flower-secaggplus:k=3", "cannot read 'k=3'")):
        with pytest.raises(GradwireError, match=wrong):
            active_audit(settings, against=against)
