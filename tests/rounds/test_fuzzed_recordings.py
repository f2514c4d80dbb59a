"""Recordings that nobody wrote: each is refused in one line, or holds rounds that can be viewed or say why not."""

import json
from random import Random

import torch
from tests.fuzzed import bytes_changed, said, trials, value_changed

from gradwire.errors import GradwireError
from gradwire.models import build
from gradwire.rounds import recording
from gradwire.rounds.recording import RecordedRound
from gradwire.wire import SERVER, Message, Transcript
from gradwire.wire.view import LocalWork

MODEL = build("mlp", (1, 2, 2), 3, seed=0)
SENT = Message("client:0", SERVER, 4, "update", {"dense": torch.zeros(3)})
ROUND = RecordedRound(
    "none",
    0,
    4,
    ("client:0", "client:1"),
    "client:0",
    work=LocalWork(2, 1, 0.5),
    evaluated=("",),
    batch=1,
    model=MODEL.state_dict(),
    messages=(SENT,),
)


def read(path):
    """Load a recording, and view each of its rounds as an audit does."""
    for each in recording.load(path).values():
        assert isinstance(each.round, int)
        each.of_client("client:1", None).view(MODEL, (1, 1, 2, 2))
        assert all(len(note.splitlines()) == 1 for note in each.notes)


def test_any_facts_of_a_round_are_read_or_refused_in_one_line(tmp_path):
    random, path = Random(0), tmp_path / "steps"
    head = recording._head(ROUND)
    facts, refused = json.loads(head.tensors["facts"].numpy().tobytes()), 0
    for _ in range(trials(600)):
        told = json.dumps(value_changed(facts, random)).encode()
        if random.random() < 0.1:
            told = bytes_changed(told, random) or b"{"
        tensors = {**head.tensors, "facts": torch.frombuffer(bytearray(told), dtype=torch.uint8)}
        if random.random() < 0.1:
            tensors["facts"] = random.choice((torch.zeros(()), torch.zeros(0), torch.ones(2, 3)))
        transcript = Transcript()
        for message in (Message(head.sender, head.receiver, head.round, head.phase, tensors), SENT):
            transcript.record(message, message.size, ())
        path.write_bytes(recording.TITLE + b"\n" + transcript.encode())
        try:
            read(path)
        except GradwireError as error:
            refused += 1
            said(error)
    assert refused


def test_any_file_is_read_or_refused_in_one_line(tmp_path):
    random, path = Random(1), tmp_path / "steps"
    recording.save({4: ROUND}, path)
    read(path)
    good = path.read_bytes()
    for _ in range(trials(300)):
        path.write_bytes(bytes_changed(good, random))
        try:
            read(path)
        except GradwireError as error:
            said(error)
