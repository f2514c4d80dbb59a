"""What a wiretap hears is what is sent, bit for bit, and who is held by whom is told truly."""

import pytest
import torch

from gradwire.studies.membership import MembershipSettings, wiretap
from gradwire.studies.membership.shadow_experiment import shadow_experiment
from gradwire.training import train
from gradwire.wire import SERVER, InProcess, Transcript

SETTINGS = MembershipSettings(
    data="digits:train=240",
    model="mlp",
    shadows=2,
    epochs=1,
    clients=3,
    batch_size=8,
    attacks=("cosine",),
    knowledge="adaptive",
    watched=3,
    momentum=0.5,
)


@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.05", "powersgd:rank=2", "qsgd", "noise:std=0.1", "dpsgd"])
def test_it_hears_the_messages_of_the_last_rounds(scheme, monkeypatch):
    heard = []
    observe = wiretap.observe
    monkeypatch.setattr(wiretap, "observe", lambda views, *a, **k: heard.append(views) or observe(views, *a, **k))
    experiment, transcript = shadow_experiment(SETTINGS), Transcript()
    training = experiment.begin(scheme, 0)
    tap = wiretap.Wiretap.on(experiment, training)
    tap.hear(training.state)
    train(training.state, training.run, training.part, InProcess(transcript), tap.hear)
    last = training.run.rounds
    assert [views[0].round for views in heard] == [last - 3, last - 2, last - 1]
    for views in heard:
        assert [view.victim for view in views] == ["client:0", "client:1", "client:2"]
        for view in views:
            mine, sent = (
                [m for m in messages if m.sender == view.victim and m.receiver == SERVER]
                for messages in (view.messages, transcript.messages(view.round))
            )
            assert len(mine) == len(sent) > 0
            for one, other in zip(mine, sent, strict=True):
                assert one.tensors.keys() == other.tensors.keys()
                assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_candidates_are_whom_a_victim_held_and_as_many_that_nobody_saw():
    experiment = shadow_experiment(SETTINGS)
    tap, members = wiretap.Wiretap.on(experiment, experiment.begin("none", 1)), experiment.members[1]
    seen = tap.held.any(0)
    assert tap.held.shape[0] == 3
    assert (tap.held.sum(1) == 3 * 8).all()
    assert members[tap.candidates[seen]].all()
    assert not members[tap.candidates[~seen]].any()
    assert seen.sum() == (~seen).sum() == 3 * 3 * 8
