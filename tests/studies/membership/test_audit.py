"""Auditing in one run: a model that learns its canaries by heart is caught, one that is trained privately is not."""

import csv
from dataclasses import replace

import pytest
import torch

from gradwire.schemes.accounting import Spent, of_poisson
from gradwire.studies.membership import MembershipSettings, run_membership
from gradwire.studies.membership.shadow_experiment import shadow_experiment


def audited(tmp_path, **options):
    settings = MembershipSettings(
        data="digits:train=500", model="mlp", shadows=1, attacks=(), canaries="mislabelled:200", clients=1, **options
    )
    folder = run_membership(settings, tmp_path / "run")
    with (folder / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def test_a_model_that_knows_its_canaries_by_heart_proves_a_large_epsilon(tmp_path):
    row = audited(tmp_path, epochs=40, lr=0.05)
    assert float(row["balanced_accuracy"]) > 0.95
    assert float(row["epsilon"]) > 2
    assert row["epsilon_claimed"] == ""


def test_a_private_model_proves_less_than_it_claims(tmp_path):
    pytest.importorskip("dp_accounting")
    row = audited(tmp_path, epochs=2, lr=0.2, schemes=("dpsgd:clip=1.0,noise=3",))
    assert 0 < float(row["epsilon_claimed"]) <= 8
    assert float(row["epsilon"]) < float(row["epsilon_claimed"])
    assert row["adjacency"] == "replace"


def test_poisson_batches_claim_and_audit_adding_or_removing(tmp_path):
    pytest.importorskip("dp_accounting")
    row = audited(tmp_path, epochs=2, lr=0.2, schemes=("dpsgd:clip=1.0,noise=1.5",), sampling="poisson")
    assert row["adjacency"] == "add/remove"
    steps, places = 2 * (350 // 16), 350
    told = of_poisson(Spent(steps, rate=16 / places), 1.5, 1e-5)
    assert float(row["epsilon_claimed"]) == pytest.approx(told.epsilon)
    assert float(row["epsilon"]) < told.epsilon


@pytest.mark.parametrize("sampling", ["shuffle", "poisson"])
def test_trainings_differ_in_their_canaries_alone(sampling):
    """What each client has, with a canary in and out: neighbours of the claimed kind, and nothing else."""
    settings = MembershipSettings(
        data="digits:train=300", model="mlp", shadows=2, attacks=(), canaries="mislabelled:40", sampling=sampling
    )
    experiment = shadow_experiment(settings)
    originals = experiment.stored.part(torch.arange(len(experiment.pool), len(experiment.stored)))
    trained = []
    for flipped in (False, True):
        members = experiment.members.clone()
        members[0, experiment.canaries[0]] = flipped
        trained.append(replace(experiment, members=members).begin("none", 0))
    out, with_it = trained
    assert out.run == with_it.run
    where = (out.own != with_it.own).nonzero().squeeze(1).tolist()
    if sampling == "shuffle":
        (place,) = where
        assert all(map(torch.equal, out.shards, with_it.shards))
        assert int(out.part.targets[place]) == int(originals.targets[0])
        assert int(with_it.part.targets[place]) == int(experiment.pool.targets[experiment.canaries[0]])
        assert torch.equal(out.part.inputs[place], with_it.part.inputs[place])
        assert int(out.part.targets[place]) != int(with_it.part.targets[place])
    else:
        assert where == []
        more = [set(b.tolist()) - set(a.tolist()) for a, b in zip(out.shards, with_it.shards, strict=True)]
        (place,) = set.union(*more)
        assert int(with_it.own[place]) == int(experiment.canaries[0])
        assert sum(map(len, with_it.shards)) == sum(map(len, out.shards)) + 1


def test_an_audit_says_how_many_canaries_were_in_and_guesses_half_of_them(tmp_path):
    row = audited(tmp_path, epochs=1, lr=1e-9)
    assert int(row["members"]) + int(row["nonmembers"]) == 200
    assert (100 * float(row["balanced_accuracy"])).is_integer()
    assert row["attack"] == "one-run:mislabelled:200"
