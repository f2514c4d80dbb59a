"""`gradwire audit --transcript`: from a recorded step to pictures."""

import csv

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradwire import data, models
from gradwire.cli import main
from gradwire.integrations.recording import Recording
from gradwire.schemes import Layout, Round, parse
from gradwire.schemes.buckets import Bucketed, under
from gradwire.wire import InProcess


@pytest.fixture
def transcript(tmp_path):
    """One worker's step with one image of class 4, in two buckets."""
    digits = data.load("digits", "test")
    model = models.build("mlp", digits.shape, digits.num_classes, digits.mean, digits.std, 0)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    image = digits.batch([int((digits.labels == 4).nonzero()[0])])
    cross_entropy(model(image[0]), image[1]).backward()
    update = {name: p.grad for name, p in model.named_parameters()}
    layout, names = Layout.of(update), tuple(update)
    scheme = Bucketed(parse("topk:ratio=0.2"), (names[2:], names[:2]))
    round = Round(5, ("client:0",), 0, layout)
    transport = InProcess()
    half = scheme.client(update, scheme.private_state(layout), {}, round)
    transport.exchange({"client:0": half}, scheme.server({}, round), 5)
    recording = Recording("topk:ratio=0.2", 0, 5, ("client:0",), "client:0", kept)
    messages = tuple(transport.transcript.messages())
    for index, part in enumerate(scheme.buckets):
        recording.add(index, part, {}, tuple(m for m in messages if under({m.phase: m.tensors}, index)))
    recording.save(tmp_path / "step")
    return tmp_path / "step"


def run(transcript, tmp_path, *options):
    main(
        [
            "audit",
            "--transcript",
            str(transcript),
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


def test_known_labels_are_taken_as_they_are(transcript, tmp_path):
    run(transcript, tmp_path, "--label", "7")
    assert "7" in (tmp_path / "out" / "results.csv").read_text().splitlines()[1].split(",")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "1", "--label", "2"), "2 labels for a batch of 1; give --label once an image"),
        (("--model", "lenet"), "the recorded step is of another model"),
        (("--transcript", "nowhere"), "there is no transcript nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(transcript, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(transcript, tmp_path, *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_transcript_without_a_recorded_step_is_refused(tmp_path):
    InProcess().transcript.save(tmp_path / "empty")
    with pytest.raises(ValueError, match="holds no recorded step"):
        Recording.load(tmp_path / "empty")


def test_recordings_come_back_whole(transcript):
    first = Recording.load(transcript)
    first.save(transcript.with_suffix(".again"))
    second = Recording.load(transcript.with_suffix(".again"))
    assert first.buckets == second.buckets
    assert [m.encode() for m in first.messages] == [m.encode() for m in second.messages]
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
