"""A membership run: what it keeps, what it writes, that it goes on where it stopped, and that it invents no leak."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from gradwire.errors import GradwireError
from gradwire.studies.membership import COLUMNS, MembershipSettings, run_membership, shadow_batches
from gradwire.studies.membership.shadow_batches import train_batch
from gradwire.studies.membership.shadow_experiment import shadow_experiment

SMALL = {
    "data": "digits:train=240",
    "model": "mlp",
    "shadows": 7,
    "epochs": 1,
    "clients": 3,
    "batch_size": 8,
    "population": 40,
    "watched": 2,
}
ATTACKS = ("prediction", "loss", "cross-entropy", "lira:variance=global", "cosine")


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    settings = MembershipSettings(
        **SMALL,
        schemes=("none", "topk:ratio=0.1"),
        attacks=ATTACKS,
        canaries="mislabelled:20",
        augment="flip",
        together=3,
        thresholds=("mean-loss", "shadow", "target"),
    )
    return settings, run_membership(settings, tmp_path_factory.mktemp("whole") / "run")


def test_a_row_is_an_attack_with_a_threshold_on_a_scheme(whole):
    settings, folder = whole
    found = rows(folder)
    assert set(found[0]) | {"seconds"} == set(COLUMNS)
    kept = {(row["scheme"], row["attack"], row["threshold"], row["knowledge"]) for row in found}
    assert len(kept) == len(found)
    for scheme in settings.schemes:
        assert (scheme, "loss", "mean-loss", "") in kept
        assert (scheme, "lira:variance=global", "shadow", "") in kept
        assert {(scheme, "cosine", "target", knowledge) for knowledge in ("naive", "adaptive")} <= kept
        # The largest probability is no loss: nobody can say at which of its values the mean training loss lies.
        assert (scheme, "prediction", "mean-loss", "") not in kept
    for row in found:
        assert 0 <= float(row["balanced_accuracy"]) <= 1
        if row["attack"] != "one-run:mislabelled:20":
            assert float(row["low"]) <= float(row["balanced_accuracy"]) <= float(row["high"])
            assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])
    sizes = {row["scheme"]: float(row["bytes_up"]) for row in found}
    assert sizes["topk:ratio=0.1"] < sizes["none"] / 5


def test_a_target_threshold_is_never_worse_than_one_chosen_elsewhere(whole):
    accuracy = {
        (r["scheme"], r["attack"], r["knowledge"], r["threshold"]): r["balanced_accuracy"] for r in rows(whole[1])
    }
    for (*what, threshold), value in accuracy.items():
        if threshold == "shadow":
            assert float(accuracy[(*what, "target")]) >= float(value)


def test_what_is_kept_are_answers_and_never_models(whole):
    settings, folder = whole
    files = sorted((folder / shadow_batches.FOLDER).iterdir())
    tensors = {name: t for file in files for name, t in load_file(file).items()}
    candidates, victims, heard = 240, 3, 2
    assert {name.partition("/")[0] for name in tensors} == {str(model) for model in range(7)}
    assert tensors["0/label"].shape == (candidates, 2)
    assert tensors["0/label"].dtype == torch.float64
    assert tensors["0/population/top"].shape == (40, 2)
    assert tensors["0/naive/inner"].shape == (heard, victims, len(tensors["0/candidates"]))
    parameters = {tuple(p.shape) for p in shadow_experiment(settings).network(0).parameters()}
    assert not parameters & {tuple(t.shape) for t in tensors.values()}


def test_an_interrupted_run_goes_on_to_the_same_result(whole, tmp_path, monkeypatch):
    settings, folder = whole
    out, before = tmp_path / "run", []

    def stop(experiment, scheme, batch):
        if len(before) == 1:
            raise KeyboardInterrupt
        before.append(batch)
        return train_batch(experiment, scheme, batch)

    monkeypatch.setattr(shadow_batches, "train_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        run_membership(settings, out)
    monkeypatch.setattr(shadow_batches, "train_batch", train_batch)
    # What a crash while writing would leave is not mistaken for a batch.
    (out / shadow_batches.FOLDER / "01-0000.tmp").write_bytes(b"half")
    trained = []
    monkeypatch.setattr(shadow_batches, "train_batch", lambda *a: trained.append(a[1:]) or train_batch(*a))
    run_membership(settings, resume=out)
    assert before == [range(3)]
    assert trained[:2] == [("none", range(3, 6)), ("none", range(6, 7))]
    assert len(trained) == 2 + 7
    assert rows(out) == rows(folder)


def test_a_folder_of_another_run_is_not_gone_on_with(whole, tmp_path):
    _, folder = whole
    other = MembershipSettings(**SMALL, attacks=("loss",))
    with pytest.raises(GradwireError, match="this run has"):
        run_membership(other, resume=folder)
    with pytest.raises(GradwireError, match="holds no config"):
        run_membership(other, resume=tmp_path)
    with pytest.raises(GradwireError, match="exclude each other"):
        run_membership(other, out=tmp_path / "new", resume=folder)
    with pytest.raises(GradwireError, match="already holds a run"):
        run_membership(other, out=folder)


def test_plain_steps_leave_what_rounds_leave(monkeypatch):
    settings = MembershipSettings(**SMALL, attacks=("loss", "cosine"))
    (fast,) = train_batch(shadow_experiment(settings), "none", [0])
    monkeypatch.setattr(shadow_batches, "fits", lambda *_: False)
    (looped,) = train_batch(shadow_experiment(settings), "none", [0])
    assert fast.keys() == looped.keys()
    for name in fast.keys() - {"seconds"}:
        torch.testing.assert_close(fast[name], looped[name], rtol=1e-3, atol=1e-3)


def test_an_example_alone_in_a_message_is_recognised_for_certain():
    alone = SMALL | {"clients": 1, "batch_size": 1, "epochs": 1, "watched": 4}
    settings = MembershipSettings(**alone, attacks=("cosine",))
    (record,) = train_batch(shadow_experiment(settings), "none", [2])
    inner, square, energy = (record[f"naive/{name}"][:, 0] for name in ("inner", "square", "energy"))
    cosines = inner / (square * energy[:, None]).sqrt()
    held = record["held"][0]
    assert held.sum() == 4
    assert (cosines[:, held].max(0).values > 1 - 1e-6).all()
    assert (cosines[:, ~held] < 1 - 1e-6).all()
    assert not shadow_experiment(settings).members[2, record["candidates"][~held]].any()


def test_a_masked_sum_has_one_victim_all_clients_together():
    settings = MembershipSettings(**SMALL, attacks=("cosine",), knowledge="adaptive")
    (record,) = train_batch(shadow_experiment(settings), "sga", [0])
    assert record["held"].shape[0] == record["adaptive/inner"].shape[1] == 1
    assert 0 < record["held"].sum() <= 2 * 3 * 8
    assert "naive/inner" not in record


def test_an_attack_on_several_messages_is_left_out_where_there_is_a_sum(tmp_path):
    few = SMALL | {"shadows": 2}
    settings = MembershipSettings(**few, attacks=("fedmia", "cosine"), schemes=("none", "sga"), thresholds=("target",))
    folder = run_membership(settings, tmp_path / "run")
    named = {(row["scheme"], row["attack"]) for row in rows(folder)}
    assert named == {("none", "fedmia"), ("none", "cosine"), ("sga", "cosine")}
    assert "fedmia compares clients' messages; under sga" in (folder / "config.json").read_text()


@pytest.mark.parametrize("attack", ["loss", "mentr", "lira:variance=global", "rmia"])
def test_models_that_learn_nothing_give_nothing_away(attack, tmp_path):
    settings = MembershipSettings(
        **SMALL | {"data": "digits:train=400", "shadows": 9, "epochs": 1}, lr=1e-9, momentum=0.0, attacks=(attack,)
    )
    found = rows(run_membership(settings, tmp_path / "run"))
    fixed = [row for row in found if row["threshold"] != "target"]
    assert fixed
    for row in fixed:
        assert float(row["auc_low"]) <= 0.5 <= float(row["auc_high"])
        assert float(row["low"]) <= 0.5 <= float(row["high"])


def _anybody(group):
    """Whether any process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_processes_change_nothing_and_a_killed_run_goes_on(whole, tmp_path):
    settings, folder = whole
    out = tmp_path / "run"
    code = (
        "from gradwire.studies.membership import *\n"
        f"if __name__ == '__main__': run_membership({settings!r}, {str(out)!r}, jobs=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(out.glob(f"{shadow_batches.FOLDER}/*.safetensors"))) < 1:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = time.monotonic() + 60
    while _anybody(process.pid) and time.monotonic() < left:
        time.sleep(0.05)
    assert not _anybody(process.pid), "workers outlive the run that started them"
    run_membership(settings, resume=out, jobs=2)
    assert rows(out) == rows(folder)
