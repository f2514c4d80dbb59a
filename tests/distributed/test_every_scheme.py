"""Every scheme over every carrier: what comes of a run is what comes of it in one process, or it is refused."""

import warnings

import pytest
import torch

from gradwire import data
from gradwire.errors import GradwireError
from gradwire.schemes import parse
from gradwire.secure.kdf import InsecureWarning, insecure_seed
from gradwire.training import TrainSettings, begin, train
from gradwire.wire import Collective, Need, ParameterServer, Transcript
from tests.distributed import workers
from tests.rounds.test_captured_as_trained import CASES, network

pytestmark = pytest.mark.slow
CARRIERS = {"collective": Collective, "parameter server": ParameterServer}


SEED = 0
"""Secrets under which no two clients' marks cancel: in an anonymous union chance passes an entry over now and then."""


def trained(spec, local, carrier=None, rank=0):
    """Parameters after three rounds of two clients; or why there are none."""
    work = {"local_steps": 2} if local else {}
    settings = TrainSettings(scheme=spec, clients=2, rounds=3, batch_size=4, lr=0.05, seed=5, **work)
    digits = data.load("digits", "train", limit=40)
    model = network()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureWarning)
            with insecure_seed(SEED + rank):
                state = begin(settings, model, carrier)
                train(state, settings, digits, carrier)
    except GradwireError as error:
        return str(error)
    parameters = torch.cat([p.detach().flatten() for p in state.model.parameters()])
    return parameters, state.bytes_up, state.bytes_down


def everything(transport):
    found, rank = {}, torch.distributed.get_rank(transport.group)
    for spec, local in CASES:
        for name, kind in CARRIERS.items():
            found[spec, local, name] = trained(spec, local, kind(Transcript(keep=0), transport.group), rank)
    return found


def test_each_pair_is_right_or_refused(tmp_path):
    first, second = workers.run(everything, tmp_path, timeout=600)
    for spec, local in CASES:
        expected = trained(spec, local)
        for name, kind in CARRIERS.items():
            mine, theirs = first[spec, local, name], second[spec, local, name]
            if parse(spec).needs <= kind.offers:
                torch.testing.assert_close(mine[0], expected[0], atol=1e-5, rtol=1e-4, msg=f"{spec} over {name}")
                assert torch.equal(mine[0], theirs[0])
                assert "anonymous" in spec or mine[1:] == expected[1:]
            else:
                assert mine == theirs
                assert mine.startswith(f"scheme {parse(spec).spec!r} needs ")
                assert Need.SERVER.value in mine or Need.REPLY_EACH.value in mine
