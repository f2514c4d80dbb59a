from gradwire.schemes import parse
from gradwire.studies.federated import NOISE, Federated, label


def rows(study, lost):
    """A row a training: `lost` gives the points that a label is below 80 %."""
    return [
        {
            "command": cell.command,
            "label": cell.label,
            "round": str(study.rounds),
            "test_accuracy": str(0.8 - lost.get(cell.label, 0) / 100),
        }
        for cell in study.cells()
        if cell.command == "train"
    ]


def verdicts(study, lost):
    return {claim.says: claim.holds for claim in study.claims(rows(study, lost))}


def test_cells_are_told_apart_and_their_schemes_parse():
    cells = Federated(seeds=2).cells()
    assert len({cell.folder for cell in cells}) == len(cells)
    for cell in cells:
        for spec in cell.settings.get("schemes", [cell.settings.get("scheme")]):
            parse(spec)
    trained = {cell.label for cell in cells if cell.command == "train"}
    assert {cell.label for cell in cells if cell.command == "audit"} <= trained


def test_the_mlps_autoencoder_is_trained_only_where_asked_for():
    asked, not_asked = ({c.label for c in Federated(large=large).cells()} for large in (True, False))
    assert asked - not_asked == {label("fashion_mnist", "mlp", p, "autoencoder") for p in ("IID", "non-IID")}


def test_claims_hold_when_the_papers_figures_are_measured_and_not_when_nothing_is_lost():
    study = Federated(large=True)
    fashion = {
        ("lenet", "IID", "autoencoder"): 0.8,
        ("mlp", "IID", "autoencoder"): 0.48,
        ("lenet", "IID", NOISE): 0.88,
        ("mlp", "IID", NOISE): 5,
        ("lenet", "non-IID", "precode"): 69.62,
        ("mlp", "non-IID", "precode"): 4.86,
    }
    lost = {label("fashion_mnist", *key): points for key, points in fashion.items()}
    lost[label("cifar10", "lenet", "IID", "sparsify:drop=0.9")] = 6.85
    assert all(verdicts(study, lost).values())
    nothing = verdicts(study, {})
    assert nothing["autoencoder within 3 points of none, mlp, IID"]
    assert not nothing["precode fails, lenet, non-IID"]
    assert not nothing["noise:std=0.1 costs the MLP more than LeNet"]
    assert verdicts(Federated(), {})["autoencoder within 3 points of none, mlp, IID"] is None
