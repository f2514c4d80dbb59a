"""What membership runs are known to find: much on a model that has learned its images by heart, little on MNIST."""

import csv

import pytest

from gradwire.studies.membership import MembershipSettings, run_membership

pytestmark = [pytest.mark.slow, pytest.mark.data]

SMALL = {"model": "convnet", "clients": 1, "batch_size": 32, "lr": 0.03, "epochs": 12, "thresholds": ("shadow",)}


def findings(folder):
    with (folder / "results.csv").open(newline="") as file:
        return {row["attack"]: {k: float(v) for k, v in row.items() if _number(v)} for row in csv.DictReader(file)}


def _number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_lira_finds_several_times_the_members_that_the_loss_finds_on_an_overfitted_model(tmp_path):
    """Carlini et al. 2022, figure 1 and table 1, at the scale of a test."""
    attacks = ("loss", "lira:variance=shrunk")
    settings = MembershipSettings(data="cifar10:train=600", shadows=16, attacks=attacks, **SMALL)
    found = findings(run_membership(settings, tmp_path / "run"))
    loss, lira = (found[attack] for attack in attacks)
    assert loss["train_accuracy"] > 0.97
    assert loss["low"] > 0.6
    assert lira["low"] > 0.6
    assert lira["tpr_at_1e-2"] > 1.5 * loss["tpr_at_1e-2"]
    assert lira["tpr_at_1e-2_low"] > 0.1


def test_on_mnist_every_attack_is_near_guessing(tmp_path):
    """Table II of "Trustworthiness of Stochastic Gradient Descent in Distributed Learning": 51.0 to 51.8 per cent.

    Of 60,000 images; of 1,000 and a dozen epochs, these attacks make 56.
    """
    attacks = ("prediction", "loss", "cross-entropy")
    settings = MembershipSettings(data="mnist:train=4000", shadows=4, attacks=attacks, **SMALL | {"epochs": 4})
    found = findings(run_membership(settings, tmp_path / "run"))
    for attack in attacks:
        assert 0.49 < found[attack]["balanced_accuracy"] < 0.54
        assert found[attack]["train_accuracy"] > 0.9
