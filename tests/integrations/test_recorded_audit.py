"""`gradwire audit --transcript`: from a recorded step to pictures."""

import csv
import importlib
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradwire import data, models
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.rounds.recording import RecordedRound, Recorder, load, save
from gradwire.schemes import Layout, Round, parse
from gradwire.schemes.buckets import Bucketed, under
from gradwire.wire import InProcess
from gradwire.wire.transport import drive


@pytest.fixture
def transcript(tmp_path):
    """One worker's step with one image of class 4, in two buckets."""
    digits = data.load("digits", "test")
    model = models.build("mlp", digits.shape, digits.outputs, digits.mean, digits.std, 0)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    image = digits.batch([int((digits.targets == 4).nonzero()[0])])
    cross_entropy(model(image[0]), image[1]).backward()
    update = {name: p.grad for name, p in model.named_parameters()}
    layout, names = Layout.of(update), tuple(update)
    scheme = Bucketed(parse("topk:ratio=0.2"), (names[2:], names[:2]))
    round = Round(5, ("client:0",), 0, layout)
    transport = InProcess()
    half = scheme.client(update, scheme.private_state(layout), {}, round)
    drive(transport, {"client:0": half}, scheme.server({}, round), 5)
    recorder, messages = Recorder(), tuple(transport.transcript.messages())
    recorder.begin(RecordedRound("topk:ratio=0.2", 0, 5, ("client:0",), "client:0"), kept)
    for index, part in enumerate(scheme.buckets):
        recorder.add_bucket(5, index, part, tuple(m for m in messages if under({m.phase: m.tensors}, index)), {})
    save(recorder.rounds, tmp_path / "step")
    return tmp_path / "step"


def run(transcript, tmp_path, *options):
    main(
        [
            "audit",
            "--transcript",
            str(transcript),
            "--data",
            "digits",
            "--model",
            "mlp",
            "--attack",
            "iga:iterations=3",
            "--out",
            str(tmp_path / "out"),
            *options,
        ]
    )


def test_a_recorded_step_is_attacked_and_pictured(transcript, tmp_path, capsys):
    run(transcript, tmp_path)
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["knowledge"] for row in rows] == ["naive", "adaptive"]
    assert all(row["labels"] == "4" and row["scheme"] == "topk:ratio=0.2" for row in rows)
    assert (tmp_path / "out" / "iga_iterations=3-adaptive.png").read_bytes().startswith(b"\x89PNG")
    assert "iga_iterations=3-naive.png" in capsys.readouterr().out


def test_the_network_scales_its_images_or_not_as_asked(transcript, tmp_path):
    objectives = []
    for name, options in (("standardised", ()), ("raw", ("--raw",))):
        run(transcript, tmp_path / name, *options)
        with (tmp_path / name / "out" / "results.csv").open(newline="") as file:
            objectives.append([row["objective"] for row in csv.DictReader(file)])
    assert objectives[0] != objectives[1]


def test_known_labels_are_taken_as_they_are(transcript, tmp_path):
    run(transcript, tmp_path, "--label", "7")
    assert "7" in (tmp_path / "out" / "results.csv").read_text().splitlines()[1].split(",")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "1", "--label", "2"), "2 labels for a batch of 1; give --label once an example"),
        (("--model", "lenet"), "the recording is of another model"),
        (("--transcript", "nowhere"), "there is no transcript nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(transcript, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(transcript, tmp_path, *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_report_of_a_step_whose_batch_nobody_showed(transcript, tmp_path):
    run(transcript, tmp_path)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What a recorded step gives away" in page
    assert "ssim" not in (tmp_path / "out" / "results.csv").read_text()


def test_the_true_batch_scores_the_answers(transcript, tmp_path):
    digits = data.load("digits", "test")
    inputs, targets = digits.batch([int((digits.targets == 4).nonzero()[0])])
    torch.save({"inputs": inputs, "targets": targets}, tmp_path / "batch")
    run(transcript, tmp_path, "--truth", str(tmp_path / "batch"))
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(-1 <= float(row["ssim"]) < 1 and row["success"] in "01" for row in rows)
    assert (tmp_path / "out" / "report.html").is_file()
    torch.save({"inputs": inputs.repeat(2, 1, 1, 1), "targets": targets}, tmp_path / "batch")
    with pytest.raises(SystemExit):
        run(transcript, tmp_path, "--truth", str(tmp_path / "batch"))


@pytest.mark.parametrize(("number", "shift", "told"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_a_batch_that_was_not_this_steps_is_told_from_it(transcript, tmp_path, number, shift, told):
    digits = data.load("digits", "test")
    inputs, targets = digits.batch([int((digits.targets == 4).nonzero()[number])])
    torch.save({"inputs": inputs, "targets": targets + shift}, tmp_path / "batch")
    run(transcript, tmp_path, "--truth", str(tmp_path / "batch"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert ("of what was sent unexplained: it is of another step or worker" in page) == told


def test_a_truth_out_of_range_is_refused_before_the_attack(transcript, tmp_path, capsys):
    inputs, targets = data.load("digits", "test").batch([0])
    torch.save({"inputs": 16 * inputs, "targets": targets}, tmp_path / "batch")
    with pytest.raises(SystemExit):
        run(transcript, tmp_path, "--truth", str(tmp_path / "batch"))
    assert "truth has values from 0 to 16" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_batch_that_was_recorded_need_not_be_told_and_must_not_be_contradicted(transcript, tmp_path, capsys):
    (each,) = load(transcript).values()
    save({5: replace(each, batch=2, evaluated=("",))}, transcript)
    run(transcript, tmp_path, "--label", "4", "--label", "4")
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert all(row["batch"] == "2" and row["mode"] == "eval" for row in csv.DictReader(file))
    for option, value in (("batch", "3"), ("batch", "1"), ("mode", "train")):
        with pytest.raises(SystemExit):
            run(transcript, tmp_path, f"--{option}", value)
        recorded = {"batch": 2, "mode": "eval"}[option]
        assert f"--{option} is {value}; round 5 was recorded with {recorded}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--local-steps", "2"), "round 5 holds gradients; leave --local-steps out"),
        (("--local-batch", "2"), "local_batch is 2; it is of --local-steps, of which there are none"),
        (("--lr", "0.1"), "--lr is of --local-steps or of several --rounds; leave it out"),
    ],
)
def test_options_of_local_steps_are_refused_where_gradients_were_sent(transcript, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        run(transcript, tmp_path, *options)
    assert message in capsys.readouterr().err


OWN = """
from torch import nn
from torch.nn.functional import mse_loss, one_hot

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, x):
        return {"scores": self.layer(x.flatten(1)), "extra": None}

def loss(output, targets):
    return mse_loss(output["scores"], one_hot(targets, 10).float())
"""


def test_an_own_network_with_any_output_and_an_own_loss(tmp_path, monkeypatch):
    (tmp_path / "ownnet.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    ownnet = importlib.import_module("ownnet")
    torch.manual_seed(0)
    model, (image, label) = ownnet.Net((1, 8, 8), 10), data.load("digits", "test").batch([3])
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ownnet.loss(model(image), label).backward()
    update = {name: p.grad for name, p in model.named_parameters()}
    layout, scheme, transport = Layout.of(update), parse("none"), InProcess()
    round = Round(0, ("client:0",), 0, layout)
    half = scheme.client(update, scheme.private_state(layout), {}, round)
    drive(transport, {"client:0": half}, scheme.server({}, round), 0)
    recorder = Recorder()
    recorder.begin(RecordedRound("none", 0, 0, ("client:0",), "client:0", batch=1), kept)
    recorder.add(0, tuple(transport.transcript.messages()), {})
    save(recorder.rounds, tmp_path / "step")
    torch.save({"inputs": image, "targets": label}, tmp_path / "batch")
    own = ("--model", "ownnet:Net", "--loss", "ownnet:loss", "--label", str(int(label)), "--raw")
    how = ("--attack", "iga:iterations=60,tv=0", "--truth", str(tmp_path / "batch"))
    run(tmp_path / "step", tmp_path, *own, *how)
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["attack"].startswith("iga:iterations=60")]
    assert max(float(row["ssim"]) for row in found) > 0.9
    assert "ownnet:loss" in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize("option", ["--samples", "--clients", "--trained-rounds", "--chunk"])
def test_options_that_a_recording_answers_are_refused(transcript, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        run(transcript, tmp_path, option, "2")
    assert f"{option} does not go with --transcript" in capsys.readouterr().err


def test_a_transcript_without_a_recorded_step_is_refused(tmp_path):
    (tmp_path / "empty").write_bytes(InProcess().transcript.encode())
    with pytest.raises(ValueError, match="holds no recorded round"):
        load(tmp_path / "empty")


def test_recordings_come_back_whole(transcript):
    rounds = load(transcript)
    line = save(rounds, transcript.with_suffix(".again"))
    first, second = rounds[5], load(transcript.with_suffix(".again"))[5]
    assert line.startswith("round 5 of topk:ratio=0.2, 1 clients; the model, public state and messages")
    assert transcript.read_bytes().splitlines()[0] == b"gradwire recording: " + line.encode()
    assert transcript.stat().st_mode & 0o777 == 0o600
    assert first.buckets == second.buckets
    assert [m.encode() for m in first.messages] == [m.encode() for m in second.messages]
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)


def test_a_redacted_recording_keeps_sizes_and_nothing_to_attack(transcript):
    whole = load(transcript)[5]
    assert "sizes of messages only" in save({5: whole}, transcript.with_suffix(".redacted"), redact=True)
    (found,) = load(transcript.with_suffix(".redacted")).values()
    assert found.sizes == tuple(m.size for m in whole.messages)
    assert not found.model
    assert not any(m.tensors for m in found.messages)
    with pytest.raises(GradwireError, match="round 5 is redacted"):
        found.view(models.build("mlp", (1, 8, 8), 10), (1, 1, 8, 8))


def test_the_last_round_of_a_training_is_recorded_and_attacked(tmp_path):
    quick = ["--model", "mlp", "--rounds", "3", "--clients", "2", "--batch-size", "1", "--scheme", "signsgd"]
    main(["train", *quick, "--record", str(tmp_path / "step"), "--out", str(tmp_path / "train")])
    (recorded,) = load(tmp_path / "step").values()
    assert (recorded.round, recorded.scheme, recorded.clients) == (2, "signsgd", ("client:0", "client:1"))
    assert {message.sender for message in recorded.messages} == {*recorded.clients, "server"}
    run(tmp_path / "step", tmp_path)
    assert list((tmp_path / "out").glob("*adaptive.png"))
