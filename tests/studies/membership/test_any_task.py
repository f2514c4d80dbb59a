"""Membership runs on tables and text, with losses that have no probabilities of classes."""

import csv
import json
import random
from functools import partial

import pytest
import torch

from gradwire import report
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.studies.membership import MembershipSettings, run_membership, shadow_batches
from gradwire.studies.membership.canaries import plant
from gradwire.studies.membership.settings import ANY_LOSS, USUAL_ATTACKS
from gradwire.studies.membership.shadow_batches import train_batch
from gradwire.studies.membership.shadow_experiment import shadow_experiment

QUICK = {"clients": 2, "batch_size": 8, "shadows": 8, "population": 40}
WORDS = ["the", "a", "film", "play", "is", "was", "good", "bad", "fine", "dull", "long", "and", "but", "very", "so"]
BERT, GPT2 = "bert:layers=1,width=8,heads=1", "gpt2:layers=1,width=8,heads=1"


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def figure(folder, attack, name, threshold="target"):
    (row,) = (r for r in rows(folder) if (r["attack"], r["threshold"]) == (attack, threshold))
    return float(row[name])


def difference(output, targets):
    """A loss that is below 0 where the output is below the target."""
    return (output - targets).mean()


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """A table of 80 different sentences of three to six words, and their stars; one of them is repeated."""
    drawn, path = random.Random(0), tmp_path_factory.mktemp("text") / "reviews.csv"
    sentences = dict.fromkeys(" ".join(drawn.choices(WORDS, k=drawn.randint(3, 6))) for _ in range(80))
    lines = [f"{each},{('few', 'many')[number % 2]}" for number, each in enumerate(sentences)]
    path.write_text("\n".join(["review,stars", *lines, *lines[:1]]) + "\n")
    return f"{path}:text=review,target=stars,vocabulary=300,length=8"


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table of 120 rows, forty of which each repeat two others."""
    drawn, path = random.Random(0), tmp_path_factory.mktemp("table") / "people.csv"
    lines = [f"{drawn.randint(20, 60)}.{number},{drawn.choice('abc')}" for number in range(80)]
    told = [f"{line},{drawn.choice(('low', 'high'))}" for line in [*lines, *lines[:40]]]
    path.write_text("\n".join(["age,town,income", *told]) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    settings = MembershipSettings(data="diabetes", shadows=12, epochs=40, augment="", population=50)
    return run_membership(settings, tmp_path_factory.mktemp("regression") / "run")


@pytest.mark.parametrize(
    ("source", "network", "loss", "attacks"),
    [
        ("digits:train=200", "convnet", "cross_entropy", USUAL_ATTACKS),
        ("diabetes", "mlp:hidden=100", "mse", ANY_LOSS),
        ("linnerud", "mlp:hidden=100", "mse", ANY_LOSS),
    ],
)
def test_the_task_says_what_is_usual_where_nobody_does(source, network, loss, attacks):
    settings = MembershipSettings(data=source, clients=1, batch_size=4, population=4)
    found = shadow_experiment(settings).settings
    assert (found.model, found.loss, found.attacks) == (network, loss, attacks)
    assert shadow_experiment(found).settings is found


def test_a_regression_that_has_learned_its_rows_by_heart_names_them(regression):
    found = rows(regression)
    assert {row["attack"] for row in found} == set(ANY_LOSS)
    assert {row["threshold"] for row in found if row["attack"] == "loss"} == {"mean-loss", "shadow", "target"}
    for attack in ANY_LOSS:
        assert figure(regression, attack, "auc_low") > 0.55
    assert all(row["train_accuracy"] == row["test_accuracy"] == "" for row in found)


def test_its_folder_says_what_was_run_and_reports_in_the_words_of_the_domain(regression):
    config = json.loads((regression / "config.json").read_text())
    settings = config["settings"]
    assert settings["model"] == "mlp:hidden=100"
    assert settings["loss"] == "mse"
    assert settings["attacks"] == list(ANY_LOSS)
    assert settings["domain"]["what"] == "rows"
    assert "which are rows" in report.write(regression).read_text()


def test_a_finished_run_is_gone_on_with_by_the_settings_that_began_it(regression):
    before = (regression / "results.csv").read_text()
    settings = MembershipSettings(data="diabetes", shadows=12, epochs=40, population=50)
    run_membership(settings, resume=regression)
    assert (regression / "results.csv").read_text() == before


@pytest.mark.parametrize("attack", ANY_LOSS)
def test_a_regression_that_learns_nothing_gives_nothing_away(attack, tmp_path):
    settings = MembershipSettings(data="diabetes", **QUICK, epochs=1, lr=1e-9, momentum=0.0, attacks=(attack,))
    for row in rows(run_membership(settings, tmp_path / "run")):
        assert float(row["auc_low"]) <= 0.5 <= float(row["auc_high"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"attacks": ("prediction",)},
            "'prediction' needs the probabilities of .* 'mse'; take loss, lira, rmia",
        ),
        ({"attacks": ("loss", "mentr")}, "attack 'mentr' needs the probabilities"),
        ({"attacks": ("cross-entropy",)}, "'cross-entropy' needs classes, for it has a threshold for each"),
        ({"canaries": "mislabelled:20"}, r"there are no classes \(loss 'mse'\): take random:20"),
        ({"augment": "flip"}, "augment is 'flip', which is for images alone"),
        ({"loss": "bce"}, "loss is 'bce'; the targets of these data suit 'mse'"),
        ({"loss": f"{__name__}:difference"}, "the loss of example . is -.*; it must be finite, and 0 or more"),
        ({"partition": "shards:2"}, "'shards:2' goes by classes, and these targets are none"),
        ({"model": "lenet"}, "'lenet' is a network of images"),
        ({"shadows": 6}, "shadows is 6; lira needs at least 7"),
    ],
)
def test_what_a_regression_cannot_have_is_refused_before_training(options, says, monkeypatch, tmp_path):
    monkeypatch.setattr(shadow_batches, "train_batch", None)
    with pytest.raises(GradwireError, match=says):
        run_membership(MembershipSettings(data="diabetes", **options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_own_loss_has_classes_but_no_probabilities():
    """Its signals are those of its value: for cross-entropy in disguise, the label's own."""
    common = {"data": "digits:train=200", "model": "mlp", **QUICK, "epochs": 2, "augment": "flip"}
    own = MembershipSettings(**common, loss="torch.nn.functional:cross_entropy", attacks=("loss", "cross-entropy"))
    (disguised,) = train_batch(shadow_experiment(own), "none", [0])
    (plain,) = train_batch(shadow_experiment(MembershipSettings(**common)), "none", [0])
    assert disguised["label"].shape == (200, 2)
    assert "top" not in disguised
    torch.testing.assert_close(disguised["label"], plain["label"], rtol=1e-3, atol=1e-3)
    with pytest.raises(GradwireError, match="'prediction' needs the probabilities of classes, and the loss is 'own'"):
        shadow_experiment(MembershipSettings(**common, loss=own.loss, attacks=("prediction",)))


def test_rows_that_repeat_earlier_ones_are_left_out_and_counted(people, tmp_path):
    out = tmp_path / "run"
    options = ["--shadows", "8", "--epochs", "2", "--clients", "1", "--batch-size", "8", "--attack", "loss"]
    main(["membership", "--data", people, "--target", "income", *options, "--out", str(out)])
    config = json.loads((out / "config.json").read_text())
    experiment = shadow_experiment(MembershipSettings(**_tupled(config["settings"])))
    inputs = experiment.pool.inputs
    assert experiment.repeated > 0
    assert len(inputs.unique(dim=0)) == len(inputs)
    outside = experiment.population.inputs
    assert not (inputs[:, None] == outside[None]).all(-1).any()
    assert f"{experiment.repeated} candidates repeat earlier ones and were left out." in config["notes"]


def _tupled(settings):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k != "domain"}


def test_random_rows_are_rows_and_keep_their_targets():
    pool = shadow_experiment(MembershipSettings(data="diabetes")).pool
    planted, where = plant(pool, "random:30", seed=1)
    rest = torch.ones(len(pool), dtype=torch.bool).index_fill_(0, where, False)
    assert torch.equal(planted.targets, pool.targets)
    assert torch.equal(planted.inputs[rest], pool.inputs[rest])
    assert torch.equal(pool.task.domain.snapped(planted.inputs[where]), planted.inputs[where])
    assert (planted.inputs[where] != pool.inputs[where]).any(1).all()


def test_random_sentences_of_the_next_token_are_their_own_targets(reviews):
    settings = MembershipSettings(data=reviews.replace("target=stars", "task=next"), model=GPT2, **QUICK)
    experiment = shadow_experiment(settings)
    planted, where = plant(experiment.pool, "random:9", seed=1)
    loss = experiment.pool.task.loss
    assert experiment.settings.attacks == ANY_LOSS
    assert (planted.inputs[where] != experiment.pool.inputs[where]).any(1).all()
    assert torch.equal(planted.targets, loss.derived(planted.inputs))


def test_canaries_that_cannot_all_differ_are_refused(tmp_path):
    path = tmp_path / "bits.csv"
    lines = [f"{number // 2 % 2},{number // 4 % 2},{number // 8},{number % 2}" for number in range(16)]
    path.write_text("\n".join(["one,two,three,told", *lines]) + "\n")
    data = f"{path}:target=told,categories=one|two|three|told"
    with pytest.raises(GradwireError, match=r"canaries is 'random:2'.* too few inputs are possible"):
        shadow_experiment(MembershipSettings(data=data, canaries="random:2", clients=1, batch_size=1, attacks=()))


@pytest.mark.parametrize(
    ("source", "model", "apart"),
    [("diabetes", "", True), ("{reviews}", BERT, False), ("{next}", GPT2, True)],
    ids=["table", "classes", "next"],
)
def test_an_example_alone_in_a_message_is_recognised_for_certain(source, model, apart, reviews):
    source = source.format(reviews=reviews, next=reviews.replace("target=stars", "task=next"))
    alone = {"clients": 1, "batch_size": 1, "epochs": 1, "watched": 4, "population": 10, "lr": 0.005}
    settings = MembershipSettings(data=source, model=model, **alone, attacks=("cosine",))
    experiment = shadow_experiment(settings)
    (record,) = train_batch(experiment, "none", [2])
    inner, square, energy = (record[f"naive/{name}"][:, 0] for name in ("inner", "square", "energy"))
    off = (square - 2 * inner) / energy[:, None] + 1  # ‖G − y‖² / ‖y‖²
    held = record["held"][0]
    assert held.sum() == 4
    assert (off[:, held].min(0).values < 1e-6).all()
    # The gradients of an untrained BERT are those of its classes, whatever the sentence.
    assert not apart or (off[:, ~held] > 1e-5).all()
    assert not experiment.members[2, record["candidates"][~held]].any()


@pytest.mark.parametrize("clients", [1, 2])
@pytest.mark.parametrize("source", ["diabetes", "{reviews}", "{next}"], ids=["table", "classes", "next"])
def test_plain_steps_leave_what_rounds_leave(source, clients, reviews, monkeypatch):
    source = source.format(reviews=reviews, next=reviews.replace("target=stars", "task=next"))
    model = {"diabetes": "", reviews: BERT}.get(source, GPT2)
    settings = MembershipSettings(data=source, model=model, **QUICK | {"clients": clients}, epochs=2, together=2)
    experiment = shadow_experiment(settings)
    fast = train_batch(experiment, "none", [0, 1])
    monkeypatch.setattr(shadow_batches, "fits", lambda *_: False)
    for one, other in zip(fast, train_batch(experiment, "none", [0, 1]), strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:
            torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-3)


def test_messages_of_clients_with_text_are_compared(reviews, tmp_path):
    attacks = ("loss", "lira:variance=global", "cosine", "inner-product", "fedmia")
    settings = MembershipSettings(
        data=reviews,
        model=BERT,
        **QUICK | {"clients": 3, "batch_size": 4},
        epochs=2,
        watched=2,
        attacks=attacks,
        schemes=("topk:ratio=0.1",),
        thresholds=("target",),
    )
    found = rows(run_membership(settings, tmp_path / "run"))
    assert {row["attack"] for row in found} == set(attacks)
    assert {row["knowledge"] for row in found if row["attack"] == "fedmia"} == {"naive", "adaptive"}
    assert all(0 <= float(row["train_accuracy"]) <= 1 for row in found)


overfitted = partial(MembershipSettings, shadows=16, attacks=("loss", "lira"), thresholds=("target",), population=200)


@pytest.mark.data
@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"data": "location30:train=600", "epochs": 30}, 0.85),
        ({"data": "adult:train=600", "epochs": 80, "model": "mlp:hidden=256"}, 0.54),
    ],
    ids=["location30", "adult"],
)
def test_an_overfitted_network_of_a_table_gives_its_rows_away(options, least, tmp_path):
    folder = run_membership(overfitted(**options, together=16), tmp_path / "run")
    assert figure(folder, "loss", "train_accuracy") > 0.97
    assert figure(folder, "loss", "auc_low") > least
    assert figure(folder, "lira", "tpr_at_1e-2") >= figure(folder, "loss", "tpr_at_1e-2")
    assert figure(folder, "lira", "tpr_at_1e-2_low") > 0.01


@pytest.mark.data
def test_sentences_of_reviews_run(tmp_path):
    settings = overfitted(data="sst2:train=200", model="bert:layers=1,width=32", epochs=1, shadows=7)
    found = rows(run_membership(settings, tmp_path / "run"))
    assert {row["attack"] for row in found} == {"loss", "lira"}
