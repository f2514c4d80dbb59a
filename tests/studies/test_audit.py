import csv
import json
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file

from gradwire.attacks.inversion import DLG, IGA
from gradwire.errors import GradwireError
from gradwire.schemes import parse
from gradwire.schemes.topk import TopK
from gradwire.studies import AuditSettings, audit
from gradwire.studies.cells import COMMANDS

QUICK = {
    "data": "digits",
    "samples": 2,
    "attacks": ("iga:iterations=5",),
    "schemes": ("none", "powersgd:rank=1", "topk:match_rank=1"),
}


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_writes_the_same_table(tmp_path):
    tables = []
    for name in ("a", "b"):
        table = rows(audit(AuditSettings(**QUICK), tmp_path / name))
        tables.append([{key: value for key, value in row.items() if key != "seconds"} for row in table])
    assert tables[0] == tables[1]
    other = rows(audit(AuditSettings(**QUICK, seed=1), tmp_path / "c"))
    assert [row["ssim"] for row in other] != [row["ssim"] for row in tables[0]]


def test_one_row_a_victim_scheme_and_knowledge(tmp_path):
    folder = audit(AuditSettings(**QUICK), tmp_path / "run")
    found = rows(folder)
    assert len(found) == 2 * 3 * 2
    assert {(r["scheme"], r["knowledge"], r["victim"]) for r in found} == {
        (s, k, v) for s in QUICK["schemes"] for k in ("naive", "adaptive") for v in "01"
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["schemes"] == list(QUICK["schemes"])
    pictures = load_file(folder / "reconstructions.safetensors")
    assert pictures["originals"].shape == pictures["powersgd:rank=1|iga:iterations=5|naive"].shape == (2, 1, 1, 8, 8)


def test_under_a_secure_sum_the_images_of_all_clients_are_scored(tmp_path):
    settings = AuditSettings(
        data="digits",
        schemes=("sga",),
        clients=2,
        samples=1,
        attacks=("iga:iterations=3",),
        model="mlp",
        labels="inferred",
    )
    folder = audit(settings, tmp_path / "run")
    assert [row["knowledge"] for row in rows(folder)] == ["naive", "adaptive"]
    notes = json.loads((folder / "config.json").read_text())["notes"]
    assert any("images of all 2 clients are sought and scored" in note for note in notes)
    assert load_file(folder / "reconstructions.safetensors")["sga|iga:iterations=3|adaptive"].shape == (1, 1, 1, 8, 8)


def test_the_network_may_take_pixels_as_they_are(tmp_path):
    tables = [rows(audit(AuditSettings(**QUICK, standardised=s), tmp_path / str(s))) for s in (True, False)]
    assert [row["ssim"] for row in tables[0]] != [row["ssim"] for row in tables[1]]


def test_small_chunks_change_nothing_but_rounding(tmp_path):
    whole = rows(audit(AuditSettings(**QUICK), tmp_path / "whole"))
    parts = rows(audit(AuditSettings(**QUICK, chunk=5), tmp_path / "parts"))
    assert len(whole) == len(parts)
    for a, b in zip(whole, parts, strict=True):
        assert float(a["ssim"]) == pytest.approx(float(b["ssim"]), abs=0.02)


def test_progress_ends_at_its_total(tmp_path):
    seen = []
    settings = AuditSettings(**QUICK, trained_rounds=2, chunk=3)
    audit(settings, tmp_path / "run", lambda *step: seen.append(step))
    assert [s for s in seen if s[0] == "training"][-1] == ("training", 6, 6)
    assert seen[-1][1] == seen[-1][2]


@pytest.mark.parametrize("adversary", ["server", "eavesdropper", "client"])
def test_attacks_in_the_middle_of_training_with_the_residual_as_it_then_is(tmp_path, adversary):
    settings = AuditSettings(**QUICK, trained_rounds=3, adversary=adversary, clients=2)
    assert len(rows(audit(settings, tmp_path / "run"))) == 12


def test_training_before_the_attack_can_do_more_than_a_victim_does_and_says_what_became_of_the_scheme(tmp_path):
    warming, done = (f"autoencoder:warmup_rounds={rounds},warmup_iterations=1,passes=1" for rounds in (4, 1))
    settings = AuditSettings(
        **(QUICK | {"model": "lenet", "schemes": (warming, done), "samples": 1}),
        trained_rounds=2,
        trained_epochs=1,
        local_steps=1,
    )
    folder = audit(settings, tmp_path / "run")
    sent = {row["scheme"]: int(row["bytes_up"]) for row in rows(folder)}
    assert sent[done] < sent[warming] / 3
    notes = json.loads((folder / "config.json").read_text())["notes"]
    assert sum("0 of 1 clients" in note and "not compressed yet" in note for note in notes) == 1
    assert sum("1 of 1 clients" in note and "yet" not in note for note in notes) == 1


@pytest.mark.slow
def test_the_residual_makes_the_trained_audit_harder_than_a_fresh_one(tmp_path):
    quick = QUICK | {"attacks": ("iga:iterations=150",), "knowledge": "adaptive", "schemes": ("topk:match_rank=1",)}
    off = quick | {"schemes": ("topk:match_rank=1,error_feedback=false",)}
    carried, fresh = (
        sum(float(r["ssim"]) for r in rows(audit(AuditSettings(**how, trained_rounds=20), tmp_path / name)))
        for name, how in (("carried", quick), ("fresh", off))
    )
    assert carried < fresh


def test_labels_can_be_inferred_and_batches_attacked(tmp_path):
    audit(AuditSettings(**QUICK, labels="inferred"), tmp_path / "inferred")
    found = rows(audit(AuditSettings(**QUICK, batch=2), tmp_path / "batch"))
    assert {row["batch"] for row in found} == {"2"}


@pytest.mark.parametrize("attack", ["dlg", "idlg", "bayes"])
def test_every_iterative_attack_can_be_an_audits(tmp_path, attack):
    spec = f"{attack}:iterations=3"
    settings = AuditSettings(data="digits", samples=1, schemes=("noise:std=0.01", "sparsify:drop=0.9"), attacks=(spec,))
    assert {row["attack"] for row in rows(audit(settings, tmp_path / "run"))} == {spec}


def test_objects_become_their_specs():
    settings = AuditSettings(
        data="digits", schemes=(TopK(ratio=0.1), parse("powersgd:rank=2+sga")), attacks=(IGA(tv=0.5), "dlg")
    )
    assert settings.schemes == ("topk:ratio=0.1", "powersgd:rank=2+sga")
    assert settings.attacks == ("iga:tv=0.5", "dlg")
    assert list(settings.inversions.values()) == [IGA(tv=0.5), DLG()]


class Cut(Exception):
    """The machine goes down."""


@pytest.mark.parametrize("moment", [110, 350])
def test_an_audit_that_was_cut_ends_with_the_table_of_one_that_was_not(tmp_path, moment):
    few = {"data": "digits", "samples": 1, "schemes": ("none", "topk:ratio=0.1"), "knowledge": "adaptive"}
    settings = AuditSettings(**few, attacks=("iga:iterations=120", "dlg:iterations=120"), chunk=1, model="mlp")

    def cut(stage, done, total):
        if done >= moment:
            raise Cut

    def table(folder):
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(folder)]

    whole = audit(settings, tmp_path / "whole")
    with pytest.raises(Cut):
        audit(settings, tmp_path / "cut", cut)
    seen = []
    shutil.copytree(tmp_path / "cut", tmp_path / "cell")
    COMMANDS["audit"](asdict(settings), tmp_path / "cell")
    assert table(tmp_path / "cell") == table(whole)
    resumed = audit(settings, progress=lambda *step: seen.append(step), resume=tmp_path / "cut")
    assert table(resumed) == table(whole)
    ours, theirs = (load_file(folder / "reconstructions.safetensors") for folder in (resumed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert seen[-1][1] == seen[-1][2]
    assert not (resumed / "checkpoints").exists()


def test_what_cannot_be_resumed(tmp_path):
    with pytest.raises(GradwireError, match="holds no run; there is nothing to resume"):
        audit(AuditSettings(**QUICK), resume=tmp_path)
    ended = audit(AuditSettings(**QUICK), tmp_path / "run")
    with pytest.raises(GradwireError, match="holds a run that ended"):
        audit(AuditSettings(**QUICK), resume=ended)
    (ended / "checkpoints").mkdir()
    with pytest.raises(
        GradwireError, match=r"has attacks=\['iga:iterations=5'\]; this run has attacks=\['iga:tv=0.1'\]"
    ):
        audit(AuditSettings(**(QUICK | {"attacks": ("iga:tv=0.1",)})), resume=ended)
    with pytest.raises(GradwireError, match="exclude each other"):
        audit(AuditSettings(**QUICK), tmp_path / "other", resume=ended)


@pytest.mark.parametrize("attack", ["fedavg", "iga", "dlg"])
def test_local_steps_are_attacked_for_what_they_are_or_it_is_said_that_they_are_not(tmp_path, attack):
    settings = AuditSettings(
        **(QUICK | {"attacks": (f"{attack}:iterations=5",)}),
        batch=2,
        local_steps=3,
        local_batch=1,
        weight_decay=0.01,
        labels="inferred",
    )
    folder = audit(settings, tmp_path / "run")
    assert len(rows(folder)) == 2 * 3 * 2
    notes = " ".join(json.loads((folder / "config.json").read_text())["notes"])
    taken = f"{attack} takes the update of 3 local steps for the mean gradient of them, weight decay and all"
    assert (taken in notes) == (attack != "fedavg")
    assert ("3 local steps unrolled" in notes) == (attack == "fedavg")


@pytest.mark.parametrize("lr", [0.0, 0.5])
def test_several_rounds_are_one_attack_among_others(tmp_path, lr):
    settings = AuditSettings(
        **(QUICK | {"attacks": ("rounds:iterations=5", "iga:iterations=5")}), rounds=2, lr=lr, clients=2
    )
    folder = audit(settings, tmp_path / "run")
    assert len(rows(folder)) == 2 * 3 * 2 * 2
    notes = json.loads((folder / "config.json").read_text())["notes"]
    assert "rounds takes 2 rounds of a victim together" in notes
    assert "iga looks at the first of 2 rounds alone" in notes


@pytest.mark.slow
def test_rounds_see_more_of_a_compressed_victim_than_its_first_one_alone(tmp_path):
    settings = AuditSettings(
        data="digits",
        samples=4,
        schemes=("topk:ratio=0.001",),
        attacks=("rounds:iterations=75", "iga:iterations=75"),
        knowledge="adaptive",
        rounds=4,
        lr=0.1,
    )
    found = rows(audit(settings, tmp_path / "run"))
    rounds, iga = (sum(float(row["ssim"]) for row in found if row["attack"] == spec) / 4 for spec in settings.attacks)
    assert rounds > iga + 0.15


@pytest.mark.parametrize("scheme", ["sga", "none"])
def test_a_report_says_what_a_secure_sum_leaves_in_the_clear(tmp_path, scheme):
    settings = AuditSettings(
        data="digits",
        samples=1,
        attacks=("iga:iterations=1",),
        schemes=(scheme,),
        model="resnet20",
        clients=2,
        knowledge="adaptive",
    )
    notes = json.loads((audit(settings, tmp_path / "run") / "config.json").read_text())["notes"]
    said = "sga hides single updates; batch norm's running statistics are sent beside it in the clear"
    assert (said in notes) == (scheme == "sga")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_adversarys_own_images_are_no_victims(tmp_path, split):
    settings = AuditSettings(
        **(QUICK | {"attacks": ("bayes:iterations=5,prior=patch,scale=1",)}), public=20, split=split
    )
    notes = " ".join(json.loads((audit(settings, tmp_path / "run") / "config.json").read_text())["notes"])
    first, last = (2, 21) if split == "train" else (0, 19)
    assert f"patches of digits's training split (images {first} to {last})" in notes
    with pytest.raises(GradwireError, match=r"public is 100000; digits has 143[68] training images to spare"):
        audit(AuditSettings(**QUICK, public=100000, split=split), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_attacks_that_learn_from_the_adversarys_own_images_can_be_an_audits(tmp_path):
    learned, then = "learned:hidden=8,epochs=1,features=16", "from-learned:iterations=2"
    own = {"attacks": (learned, then, "class-mean"), "knowledge": "both", "mode": "eval"}
    folder = audit(AuditSettings(**(QUICK | own), public=20), tmp_path / "run")
    table = rows(folder)
    assert {row["attack"] for row in table} == set(own["attacks"])
    assert {(row["attack"], row["knowledge"], row["scheme"]) for row in table if row["ssim"] != "nan"} == {
        (attack, knowledge, scheme)
        for attack in own["attacks"]
        for knowledge in ("naive", "adaptive")
        for scheme in QUICK["schemes"]
    }
    notes = json.loads((folder / "config.json").read_text())["notes"]
    source = "digits's training split (images 0 to 19)"
    assert f"learned was trained on 20 rounds of {source}, under powersgd" in notes
    assert f"learned was trained on 20 rounds of {source}, under plain gradients" in notes
    assert f"class-mean has 20 of {source}" in notes
    with pytest.raises(GradwireError, match=r"learned needs images of the adversary's own; there are none"):
        audit(AuditSettings(**(QUICK | own)), tmp_path / "without")


def test_fedavg_needs_local_steps(tmp_path):
    with pytest.raises(GradwireError, match="fedavg needs a view of local steps"):
        audit(AuditSettings(**(QUICK | {"attacks": ("fedavg",)})), tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds is 0; it must be at least 1"),
        (
            {"trained_epochs": 1, "local_steps": 1},
            "trained_epochs is 1 with 0 trained_rounds and 1 local_steps; it",
        ),
        ({"trained_epochs": 1, "trained_rounds": 1}, "trained_epochs is 1 with 1 trained_rounds and 0 local_steps; it"),
        ({"rounds": 2, "trained_rounds": 3}, "trained_rounds is 3; with several rounds it must be 0"),
        ({"rounds": 2, "local_steps": 3}, "local_steps is 3; with several rounds it must be 0"),
        ({"local_batch": 1}, "local_batch is 1 and local_steps 0"),
        ({"local_steps": 2, "batch": 3, "local_batch": 2}, "local_batch is 2; it must divide the victim's 3 examples"),
        ({"local_steps": 2, "lr": 0.0}, "lr is 0; local steps need a size"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"attacks": ("iga:bn=-1",)}, "bn is -1"),
        ({"attacks": ("iga:precision=fp8",)}, "precision is 'fp8'; it must be one of fp32, tf32, bf16"),
        ({"attacks": ("iga:optimizer=sgd",)}, "optimizer is 'sgd'; it must be one of adam, lbfgs"),
        ({"samples": 0}, "samples is 0; it must be at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"chunk": -1}, "chunk is -1"),
        ({"knowledge": "some"}, "unknown knowledge 'some'; known: naive, adaptive, both"),
        ({"adversary": "god"}, "unknown adversary"),
        ({"mode": "test"}, "unknown mode"),
        ({"labels": "maybe"}, "unknown labels"),
        ({"split": "valid"}, "unknown split"),
        ({"adversary": "client", "clients": 1}, "needs at least 2"),
        ({"schemes": ("powersdg",)}, "unknown scheme"),
        (
            {"schemes": ("none", "autoencoder")},
            "autoencoder.* needs what local steps make of the parameters, not a gradient",
        ),
        ({"schemes": ("dgc",), "local_steps": 2}, "dgc.* needs single gradients: it corrects their momentum"),
        ({"schemes": ()}, "at least one scheme"),
        ({"attacks": ("magic",)}, "unknown attack"),
        ({"attacks": ("iga:iterations=0",)}, "iterations is 0"),
        ({"attacks": ("iga:group=0.1,restart=2",)}, "cannot read 'restart=2'; iga takes iterations, restarts, step"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(GradwireError, match=message):
        AuditSettings(**settings)


def test_more_victims_than_images_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(GradwireError, match=r"digits has 359 test images; this audit needs 1000.* --samples 359 or"):
        audit(AuditSettings(data="digits", samples=1000), tmp_path / "run")
    with pytest.raises(GradwireError, match=r"needs 360: a batch for every party of every victim's round$"):
        audit(AuditSettings(data="digits", samples=1, batch=360), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pictures_hold_what_the_rows_were_scored_on(tmp_path):
    folder = audit(AuditSettings(**QUICK), tmp_path / "run")
    pictures = load_file(folder / "reconstructions.safetensors")
    error = (pictures["none|iga:iterations=5|naive"] - pictures["originals"]).square().flatten(1).mean(1)
    expected = [float(r["mse"]) for r in rows(folder) if r["scheme"] == "none" and r["knowledge"] == "naive"]
    torch.testing.assert_close(error, torch.tensor(expected), atol=1e-6, rtol=1e-4)
