"""What was kept back, worked out from earlier rounds: against the truth, with a search that finds every batch."""

from dataclasses import dataclass

import pytest
import torch

from gradwire import models
from gradwire.attacks.inversion import Guess, pose
from gradwire.attacks.inversion.listener import listen
from gradwire.errors import GradwireError
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Layout, Round, initial_states, parse
from gradwire.schemes.gradients import Full
from gradwire.training import gradient
from gradwire.wire import InProcess, Transcript, View

PARTIES = ("client:0", "client:1")
ROUNDS = 4


@dataclass
class Knows:
    """A search that finds what it was told."""

    inputs: dict[int, torch.Tensor]

    def run(self, problems, seed=0, device="cpu", progress=None, checkpoint=None):
        found = torch.stack([self.inputs[p.view.round] for p in problems])
        return Guess(found, torch.stack([p.targets for p in problems]), torch.zeros(len(problems)), 1)


def batches(digits, party):
    """Each round's batch of a client, another one in every round."""
    return [digits.batch([ROUNDS * PARTIES.index(party) + i]) for i in range(ROUNDS)]


def heard(digits, spec):
    """The views of rounds of other batches each, and the victim's residual before the last of them."""
    model = models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, 0)
    scheme, layout = parse(spec), Layout.of_model(model)
    private, public = initial_states(scheme, layout, PARTIES, 0), scheme.public_state(layout)
    views, held = [], None
    for index in range(ROUNDS):
        held = private[PARTIES[0]]
        brought = {
            p: Contribution(gradient(model, *batches(digits, p)[index])[1], state) for p, state in private.items()
        }
        round, carrier = Round(index, PARTIES, 0, layout), InProcess(Transcript())
        result = run_round(scheme, brought, public, round, carrier)
        inputs, targets = batches(digits, PARTIES[0])[index]
        messages = tuple(carrier.transcript.messages())
        facts = {"scheme": spec, "public": public, "clients": PARTIES, "round": index, "seed": 0, "model": model}
        more = {"mode": "train", "task": digits.task, "shape": tuple(inputs.shape), "bytes_up": 0, "bytes_down": 0}
        views.append(View("server", PARTIES[0], messages, targets=targets, **facts, **more))
        private, public = result.private, result.public
    return views, scheme.kept_back(held, layout)


@pytest.mark.parametrize(
    "spec", ["topk:ratio=0.05", "topk:ratio=0.05,per=model", "randomk:ratio=0.1", "powersgd:rank=1"]
)
def test_what_is_left_of_the_last_message_is_of_its_own_gradient(digits, spec):
    views, residual = heard(digits, spec)
    told = batches(digits, PARTIES[0])
    found = listen(views, Knows({i: inputs for i, (inputs, _) in enumerate(told)}))
    own = gradient(views[-1].model, *told[-1])[1]
    assert found.explained == ROUNDS - 1
    assert max(float(r.norm()) for r in residual.values()) > 0.1
    for name, kept in residual.items():
        torch.testing.assert_close(found.residual[name].float(), kept, atol=1e-4, rtol=1e-3)
    for name, terms in found.problem.measurement.items():
        for term in terms:
            truth = Full(own[name][None].to(term.observed))
            torch.testing.assert_close(term.apply(truth), term.observed, atol=1e-4, rtol=1e-3)


def test_of_top_k_an_entry_has_no_residual_for_sure_where_it_was_sent_the_round_before(digits):
    views, _ = heard(digits, "topk:ratio=0.05")
    found = listen(views, Knows({i: torch.rand(1, *digits.shape) for i in range(ROUNDS)}))
    sent = [pose(view, "adaptive").measurement for view in views]
    both = sum(
        len(set(t[0].indices[0].tolist()) & set(sent[-2][n][0].indices[0].tolist())) for n, t in sent[-1].items()
    )
    assert found.alone == both
    assert found.numbers == sum(t[0].indices.numel() for t in sent[-1].values())
    wrong = {n: t[0] for n, t in found.problem.measurement.items()}
    for name, term in wrong.items():
        again = torch.isin(term.indices[0], sent[-2][name][0].indices[0])
        torch.testing.assert_close(term.observed[0][again].float(), sent[-1][name][0].observed[0][again])


@pytest.mark.parametrize(
    ("spec", "chosen", "message"),
    [
        ("none", [0, 1], "keeps nothing back"),
        ("topk:ratio=0.1", [0, 2], "without a gap"),
        ("signsgd:error_feedback=true", [0, 1], r"\(signs\) is no linear map"),
    ],
)
def test_rounds_of_which_no_residual_follows_are_refused(digits, spec, chosen, message):
    views, _ = heard(digits, spec)
    search = Knows({i: torch.rand(1, *digits.shape) for i in range(ROUNDS)})
    with pytest.raises(GradwireError, match=message):
        listen([views[i] for i in chosen], search)
