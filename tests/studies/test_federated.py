from gradwire.schemes import parse
from gradwire.studies.federated import Federated
from gradwire.studies.federated_answers import FEW, NOISE, SSIM, label


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


def audits(study, leaked):
    """A row an audit, attack and kind of knowledge: `leaked` gives the SSIM of a label and attack."""
    return [
        {
            "command": "audit",
            "label": c.label,
            "attack": attack,
            "knowledge": knowledge,
            "ssim": str(leaked(c, attack.partition(":")[0])),
        }
        for c in study.cells()
        if c.command == "audit"
        for attack in c.settings["attacks"]
        for knowledge in ("naive", "adaptive")
    ]


def verdicts(study, lost, leaked=lambda cell, attack: 1.0):
    return {claim.says: claim.holds for claim in study.claims([*rows(study, lost), *audits(study, leaked)])}


def test_cells_are_told_apart_and_their_schemes_parse():
    cells = Federated(seeds=2).cells()
    assert len({cell.folder for cell in cells}) == len(cells)
    for cell in cells:
        for spec in cell.settings.get("schemes", [cell.settings.get("scheme")]):
            parse(spec)
    trained = {cell.label for cell in cells if cell.command == "train"}
    audited = {cell.label for cell in cells if cell.command == "audit"}
    later = {name for name in audited if " trained: " in name}
    fresh = audited - later
    assert fresh <= trained
    assert later == {name.replace(FEW, "trained").replace("IID", "trained") for name in fresh}


def test_the_mlps_autoencoder_is_trained_only_where_asked_for():
    asked, not_asked = ({c.label for c in Federated(large=large).cells()} for large in (True, False))
    few = {label("fashion_mnist", "mlp", FEW, scheme) for scheme in ("none", "autoencoder")}
    assert asked - not_asked == few | {label("fashion_mnist", "mlp", "trained", "autoencoder")}


def test_claims_hold_when_the_papers_figures_are_measured_and_not_when_nothing_is_lost():
    study = Federated(large=True)
    fashion = {
        ("lenet", FEW, "autoencoder"): 0.8,
        ("mlp", FEW, "autoencoder"): 0.48,
        ("lenet", "IID", NOISE): 0.88,
        ("mlp", "IID", NOISE): 5,
        ("lenet", "non-IID", "precode"): 69.62,
        ("mlp", "non-IID", "precode"): 4.86,
    }
    lost = {label("fashion_mnist", *key): points for key, points in fashion.items()}
    lost[label("cifar10", "lenet", "IID", "sparsify:drop=0.9")] = 6.85
    hidden = {(label("fashion_mnist", model, at, scheme), attack): ssim for scheme, model, at, attack, _, ssim in SSIM}
    found = verdicts(study, lost, lambda cell, attack: hidden.get((cell.label, attack), 1.0))
    assert len(found) == 6 + 2 * len(SSIM) + 1
    assert all(found.values())
    nothing = verdicts(study, {})
    assert nothing[f"autoencoder within 3 points of none, mlp, {FEW}"]
    assert not nothing["precode fails, lenet, non-IID"]
    assert not nothing["noise:std=0.1 costs the MLP more than LeNet"]
    assert verdicts(Federated(), {})[f"autoencoder within 3 points of none, mlp, {FEW}"] is None


def test_what_is_hidden_is_told_from_what_is_given_away_and_from_what_was_not_run():
    study = Federated()
    open_, shut = (verdicts(study, {}, lambda cell, attack, ssim=ssim: ssim) for ssim in (0.9, 0.1))
    for knowledge in ("naive", "adaptive"):
        says = f"none gives images away, untrained lenet, {knowledge} iga"
        assert (open_[says], shut[says]) == (True, False)
        says = f"autoencoder hides images, untrained lenet, {knowledge} iga"
        assert (open_[says], shut[says]) == (False, True)
        assert open_[f"autoencoder hides images, trained mlp, {knowledge} iga"] is None
    assert open_["precode gives images away, untrained mlp, adaptive analytic"]
