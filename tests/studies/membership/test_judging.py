"""Scores that somebody has, and models that somebody has, are judged without training."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

import gradwire
from gradwire.data import load
from gradwire.errors import GradwireError
from gradwire.studies.membership import MembershipSettings, judge_file, judge_model
from gradwire.studies.membership.given import Given, read_scores
from gradwire.studies.membership.judging import judge_given


def rows(folder, name="results.csv"):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def found(folder, attack, threshold):
    return next(r for r in rows(folder) if (r["attack"], r["threshold"]) == (attack, threshold))


def notes(folder):
    return " ".join(json.loads((folder / "config.json").read_text())["notes"])


@pytest.fixture
def tidy():
    """Losses of one model on 2,000 examples, lower on its members, and of few classes."""
    random = np.random.default_rng(0)
    members = np.arange(2000) % 2
    losses = random.exponential(1.0, 2000) * np.where(members, 0.5, 1.0)
    names = [f"patient {i}" for i in range(2000)]
    return pd.DataFrame({"example": names, "member": members, "score": losses, "label": np.arange(2000) % 3})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_losses_is_judged_and_says_whom_to_tell(tidy, tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    tidy.to_csv(path, index=False) if suffix == ".csv" else tidy.to_parquet(path)
    folder = judge_file(path, "loss", tmp_path / "run", 0.95, 0)
    loss = found(folder, "loss", "mean-loss")
    # Of exponentials with means ½ and 1, Pr[½·X < Y] = ⅔.
    assert float(loss["auc_low"]) < 2 / 3 < float(loss["auc_high"])
    assert loss["finds"]
    assert loss["tpr_at_1e-3"] != ""
    people = rows(folder, "records.csv")
    assert len(people) == 2000
    first = min(people, key=lambda each: int(each["rank"]))
    lowest = tidy.loc[tidy["score"].idxmin()]
    assert first["example"] == lowest["example"]
    assert int(first["member"]) == lowest["member"]
    assert {each["against"] for each in people} == {"non-members"}
    p = np.array([float(each["p"]) for each in people if each["member"] == "0"])
    assert 0 < p.min() <= 2 / 1001
    assert abs(p.mean() - 0.5) < 0.02


def test_classes_have_thresholds_where_labels_are_given(tidy, tmp_path):
    path = tmp_path / "scores.csv"
    tidy.to_csv(path, index=False)
    folder = judge_file(path, "loss", tmp_path / "run", 0.95, 0)
    assert found(folder, "cross-entropy", "target")
    tidy.drop(columns="label").to_csv(path, index=False)
    folder = judge_file(path, "loss", tmp_path / "without", 0.95, 0)
    assert {row["attack"] for row in rows(folder)} == {"loss"}


def test_losses_that_are_taken_for_scores_are_noticed(tidy, tmp_path):
    folder = gradwire.judge(tidy["score"], tidy["member"], out=tmp_path / "run")
    assert "Members score lower than others (AUC 0.3" in notes(folder)
    assert "say --score-is loss if these are losses" in (folder / "report.html").read_text()
    assert rows(folder)[0]["finds"] == ""
    folder = gradwire.judge(-tidy["score"], tidy["member"], out=tmp_path / "right")
    assert "Members score lower" not in notes(folder)
    assert rows(folder)[0]["finds"]


def test_several_models_are_compared_with_each_other(tmp_path):
    random = np.random.default_rng(0)
    members = random.random((10, 600)) < 0.5
    logits = 2 * random.standard_normal(600) + 2 * members + random.standard_normal((10, 600))
    folder = gradwire.judge(logits, members, score_is="logit", out=tmp_path / "run")
    loss, lira = (found(folder, attack, "shadow") for attack in ("loss", "lira:variance=global"))
    assert float(lira["auc_low"]) > float(loss["auc_high"])
    assert (loss["members"], loss["nonmembers"]) == (lira["members"], lira["nonmembers"])
    assert "could not be judged by every attack" in notes(folder)
    against = [each["against"] for each in rows(folder, "records.csv")]
    assert against.count("models without it") > 0.85 * len(against)
    # The same examples under a permuted truth give nothing away.
    other = next(row for row in rows(folder, "permuted.csv") if row["attack"] == "lira:variance=global")
    assert float(other["auc_low"]) < 0.5 < float(other["auc_high"])
    assert other["finds"] == ""


def test_models_that_were_asked_of_different_examples_are_not_compared(tmp_path):
    random = np.random.default_rng(0)
    scores, members = random.standard_normal((8, 300)), random.random((8, 300)) < 0.5
    scores[0, :100] = np.nan
    folder = gradwire.judge(scores, members, score_is="logit", out=tmp_path / "run")
    assert {row["attack"] for row in rows(folder)} == {"loss"}
    assert int(rows(folder)[0]["members"]) == int(members.sum() - members[0, :100].sum())
    assert "100 of 2400 pairs of a model and an example have no score, so models are not compared" in notes(folder)


def test_too_few_models_to_compare_are_a_note(tmp_path):
    random = np.random.default_rng(0)
    given = Given.of(random.standard_normal((4, 60)), random.random((4, 60)) < 0.5, score_is="logit")
    said = notes(judge_given(given, "scores", tmp_path / "run", 0.95, 0))
    assert "lira:variance=global and lira-offline were left out: they need at least 7 models" in said


def test_a_model_of_scikit_learn_by_its_probabilities(tmp_path):
    digits = load("digits", "train")
    inputs, labels = digits.inputs.flatten(1).double().numpy() / 16, digits.targets.numpy()
    inside = np.arange(len(labels)) < 200
    model = LogisticRegression(C=1e3, max_iter=2000).fit(inputs[inside], labels[inside])
    told = {"members": inside, "labels": labels}
    folder = gradwire.judge(model.predict_proba(inputs), score_is="probabilities", out=tmp_path / "soft", **told)
    assert found(folder, "mentr", "target")["finds"] == ""
    assert float(found(folder, "loss", "none")["auc_low"]) > 0.53
    folder = gradwire.judge(model.predict(inputs), score_is="class", out=tmp_path / "hard", **told)
    (only,) = {row["attack"] for row in rows(folder)}
    assert only == "label-only"
    gap = (model.predict(inputs) == labels)[inside].mean() - (model.predict(inputs) == labels)[~inside].mean()
    assert float(rows(folder)[0]["auc"]) == pytest.approx(0.5 + gap / 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="member"), "no column 'member'; it has example, score, label"),
        (lambda t: t.assign(member=2), "row 1: member is 2; it must be 0 or 1"),
        (lambda t: t.assign(member=1), "no non-member among its 2000 examples"),
        (lambda t: t.assign(score=t["score"].mask(t.index == 4)), "row 5: score is nan; it must be a number"),
        (lambda t: t.assign(score="high"), "row 1: score is high; it must be a number"),
        (lambda t: t.assign(score=-1.0), "example patient 0 of model 0 has -1; a loss is 0 or more; of an attack, say"),
        (lambda t: t.assign(example=0.0), "row 2: example is 0.0; its model has that example twice"),
        (lambda t: t[:0], "scores.csv: it has a header and no rows"),
        (
            lambda t: pd.concat([t, t.assign(model=1, label=5)]).fillna(0),
            "row 1: example is patient 0; it has another label",
        ),
    ],
)
def test_tables_that_are_none(tidy, tmp_path, change, says):
    path = tmp_path / "scores.csv"
    change(tidy).to_csv(path, index=False)
    with pytest.raises(GradwireError, match=says) as caught:
        judge_file(path, "loss", tmp_path / "run", 0.95, 0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"scores": [0.1, 0.9], "members": [1, 0, 1]}, "shape"),
        ({"scores": [0.1, 1.9], "members": [1, 0], "score_is": "confidence"}, "example 1 of model 0 has 1.9"),
        ({"scores": [0.1, 0.9], "members": [1, 0], "score_is": "guess"}, "unknown score-is"),
        ({"scores": [0, 1], "members": [1, 0], "score_is": "class"}, "needs the examples' labels"),
        (
            {"scores": [[0.1, 0.1], [0.5, 0.5]], "members": [1, 0], "score_is": "probabilities", "labels": [0, 1]},
            "add up",
        ),
    ],
)
def test_arrays_that_are_none(arguments, says, tmp_path):
    with pytest.raises(GradwireError, match=says):
        gradwire.judge(**arguments, out=tmp_path / "run")


def test_an_npz_file_holds_arrays(tmp_path):
    path = tmp_path / "scores.npz"
    np.savez(path, scores=np.zeros((2, 3)))
    with pytest.raises(GradwireError, match="no array 'members'; it has scores"):
        read_scores(path, "score")
    np.savez(path, scores=np.zeros((2, 3)), members=np.eye(2, 3))
    assert read_scores(path, "score").members.sum() == 2


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    """A network that knows 150 digits by heart, its parameters in a file."""
    folder = tmp_path_factory.mktemp("owned")
    train = load("digits", "train").part(torch.arange(150))
    network = train.network("mlp", 5)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    inputs, targets = train.batch(range(150))
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "model.pt")
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "members.txt").write_text("\n".join(map(str, range(150))))
    (folder / "others.txt").write_text("\n".join(map(str, range(150, 600))))
    return folder


SETTINGS = MembershipSettings(data="digits", model="mlp", epochs=20, clients=1)


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_a_model_and_its_lists_are_judged(owned, file, tmp_path):
    lists = str(owned / "members.txt"), str(owned / "others.txt")
    folder = judge_model(owned / file, *lists, SETTINGS, out=tmp_path / "run")
    loss = found(folder, "loss", "mean-loss")
    assert (loss["members"], loss["nonmembers"]) == ("150", "450")
    assert float(loss["auc_low"]) > 0.55
    assert float(loss["train_accuracy"]) == 1
    assert not (folder / "shadows").exists()


def test_shadows_are_trained_if_asked_for_and_a_model_unlike_them_is_noticed(owned, tmp_path):
    lists = str(owned / "members.txt"), str(owned / "others.txt")
    shadows = {"shadows": 6, "out": tmp_path / "run"}
    folder = judge_model(owned / "model.pt", *lists, SETTINGS, **shadows)
    assert float(found(folder, "lira-offline", "shadow")["auc"]) > 0.55
    assert len({(row["members"], row["nonmembers"]) for row in rows(folder)}) == 1
    kept = {path: path.read_bytes() for path in (folder / "shadows").iterdir()}
    assert len(kept) == 6
    before = rows(folder)
    (folder / "shadows" / "00-0003.safetensors").unlink()
    judge_model(owned / "model.pt", *lists, SETTINGS, shadows=6, resume=folder)
    assert rows(folder) == before
    other = MembershipSettings(data="digits", model="mlp", epochs=21, clients=1)
    with pytest.raises(GradwireError, match="has epochs=20; this run has epochs=21"):
        judge_model(owned / "model.pt", *lists, other, shadows=6, resume=folder)
    lazy = MembershipSettings(data="digits", model="mlp", epochs=1, lr=1e-6, clients=1)
    other = judge_model(owned / "model.pt", *lists, lazy, shadows=6, out=tmp_path / "lazy")
    assert "so it was trained otherwise" in notes(other)
    assert "so it was trained otherwise" not in notes(folder)


def test_lists_and_models_that_do_not_fit(owned, tmp_path):
    own, other = str(owned / "members.txt"), str(owned / "others.txt")
    bad = tmp_path / "bad.txt"
    for text, says in (("3\n5000\n", "holds 5000; training examples are numbered 0 to"), ("1\n1\n", "twice")):
        bad.write_text(text)
        with pytest.raises(GradwireError, match=says):
            judge_model(owned / "model.pt", own, str(bad), SETTINGS, out=tmp_path / "run")
    with pytest.raises(GradwireError, match="150 of 150 non-members are members too"):
        judge_model(owned / "model.pt", own, own, SETTINGS, out=tmp_path / "run")
    with pytest.raises(GradwireError, match="is of another model"):
        judge_model(owned / "model.pt", own, other, MembershipSettings(model="convnet"), out=tmp_path / "run")
    with pytest.raises(GradwireError, match="cannot be read"):
        judge_model(bad, own, other, SETTINGS, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
