"""An iteration asks nothing of the host: no number is read, no shape depends on one, no constant is made or moved.

The meta device stands for a card: its tensors hold no numbers, so that whatever reads one fails, and what is on the CPU
in an iteration would be copied. Constants of the host's numbers that are made on a device are seen on the CPU.
"""

from contextlib import ExitStack, nullcontext, suppress
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import DLG, IGA, Bayes, FedAvg, pose, search
from gradwire.attacks.inversion.bayes import PreparedBayes
from gradwire.attacks.inversion.patches import PatchPrior
from gradwire.attacks.inversion.problem import ATTACKING
from gradwire.attacks.inversion.rounds import Rounds, joint
from gradwire.attacks.inversion.tableak import TabLeak
from gradwire.engine import victims
from gradwire.registry import SCHEMES
from gradwire.training.capture import capture_rounds
from tests.attacks.inversion import tables

WAITS = {"item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "bincount"}
WAITS |= {"unique_dim", "unique_consecutive", "lift_fresh", "lift", "_linalg_check_errors", "_pin_memory"}
"""Operations that read numbers of a card, or that make a tensor of the host's numbers."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations that count, first, how often a mask holds."""
# "none" and "signsgd" twice and apart, so that their rows are taken by number.
ALONE = ("none", "topk:ratio=0.1", "topk:ratio=0.1,per=model", "randomk:ratio=0.1", "powersgd", "dgc", "qsgd")
ALONE += (
    "lqsgd",
    "half",
    "signsgd",
    "noise:std=0.1",
    "none",
    "sparsify:drop=0.5",
    "dpsgd",
    "dpftrl",
    "dpfedavg",
    "signsgd",
)
POOLED = ("sga", "ssga", "ssga-dgc")
AUTOENCODER = ("autoencoder:warmup_rounds=0,warmup_iterations=1,passes=1",)
PRECODE = ("precode",)


class Enough(Exception):
    """The watched iteration is over."""


class Watch(TorchDispatchMode):
    """Collects the operations for which a card would wait, of work on a device."""

    def __init__(self, device):
        super().__init__()
        self.device, self.seen, self.waits = device, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        name = str(function).removeprefix("aten.").partition(".")[0]
        self.seen += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
        elsewhere = any(tensor.device.type != self.device for tensor in tensors)
        masked = name in INDEXING and any(index.dtype == torch.bool for index in args[1] if index is not None)
        if name in WAITS or elsewhere or masked:
            self.waits.add(f"{name} on {self.device}")
        return found


def waits(attack, problems):
    """What a card would wait for in the second iteration of an attack, seen on both devices."""
    found = set()
    for device in ("cpu", "meta"):
        watch, done = Watch(device), 0
        with suppress(Enough), ExitStack() as stack:

            def tick(stage, *_, stack=stack, watch=watch):
                nonlocal done
                done += stage == ATTACKING
                if done == 1:
                    stack.enter_context(watch)
                if done == 2:
                    raise Enough

            attack.run(problems, device=device, progress=tick)
        assert done == 2
        assert watch.seen > 300
        found |= watch.waits
    return found


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch):
    """It does not know the meta device."""
    monkeypatch.setattr(search, "computing", lambda *_: nullcontext())


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def lenet(digits):
    return models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


@pytest.fixture(scope="module")
def posed(lenet, digits):
    """Scheme specs → a problem of each, of one client or of three."""

    @cache
    def problems(specs):
        fellows = [digits.batch([n]) for n in (90, 91)] if specs == POOLED else ()
        steps = {"local_steps": 1} if specs == AUTOENCODER else {}
        taken = enumerate(specs)
        views = [gradwire.capture(lenet, *digits.batch([i]), spec, fellows=fellows, **steps) for i, spec in taken]
        return [pose(view, "adaptive", salt) for salt, view in enumerate(views)]

    return problems


@pytest.fixture(scope="module")
def prior(digits):
    return PatchPrior.fit(digits.inputs[:100], "digits", components=2)


def test_every_scheme_is_looked_at():
    named = {spec.partition(":")[0] for spec in (*ALONE, *POOLED, *AUTOENCODER, *PRECODE)}
    assert named == set(SCHEMES.builtin)


@pytest.mark.parametrize("specs", [ALONE, POOLED], ids=["alone", "pooled"])
@pytest.mark.parametrize(
    "attack",
    [IGA(restarts=2, group=0.1), IGA(optimizer="lbfgs"), Bayes(), Bayes(prior="patch", optimizer="lbfgs"), DLG()],
    ids=["iga", "iga-lbfgs", "bayes", "bayes-patch", "dlg"],
)
def test_an_iteration_does_not_wait_for_the_host(attack, specs, posed, prior, monkeypatch):
    monkeypatch.setattr(victims, "_by_speed", lambda *_: ["batched", "plain"])
    problems = posed(specs)
    if isinstance(attack, Bayes):
        attack = PreparedBayes(
            **vars(attack), scales=(0.1,) * len(problems), patches=prior if attack.prior == "patch" else None
        )
    assert not waits(attack, problems)


@pytest.mark.parametrize("specs", [AUTOENCODER, PRECODE])
def test_codes_do_not_wait(specs, posed):
    for attack in (IGA(optimizer="lbfgs"), Bayes()):
        assert not waits(attack, posed(specs))


@pytest.mark.parametrize("path", ["functional", "plain"])
def test_the_other_paths_do_not_wait_either(path, posed, monkeypatch):
    monkeypatch.setattr(victims, "_by_speed", lambda *_: [path, "plain"][: 1 + (path != "plain")])
    assert not waits(IGA(optimizer="lbfgs"), posed(ALONE))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_norms_and_their_statistics_do_not_wait(mode, digits):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 20, 3), nn.BatchNorm2d(20), nn.ReLU(), nn.GroupNorm(2, 20), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Conv2d(20, 20, 3, groups=4, padding=1), nn.Flatten(), nn.Linear(180, 10))
    views = [gradwire.capture(network, *digits.batch([i, 9]), mode=mode) for i in range(2)]
    assert not waits(IGA(bn=0.1), [pose(view, "adaptive") for view in views])


def test_labels_that_are_sought_do_not_wait(lenet, digits):
    view = gradwire.capture(lenet, *digits.batch([0]), targets_known=False)
    assert not waits(DLG(optimizer="lbfgs"), [pose(view, "adaptive")])


def test_rounds_and_local_steps_do_not_wait(lenet, digits):
    views = capture_rounds(lenet, *digits.batch([0]), "topk:ratio=0.1", 2)
    assert not waits(Rounds(), [joint(views)])
    stepped = gradwire.capture(lenet, *digits.batch([0, 1]), local_steps=2, local_batch=2, lr=0.1)
    assert not waits(FedAvg(free=True), [pose(stepped, "adaptive")])


def test_rows_of_tables_do_not_wait():
    problems = [pose(tables.captured(tables.rows(4), spec), "adaptive") for spec in ("none", "topk:ratio=0.2", "qsgd")]
    assert not waits(TabLeak(exact=False), problems)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x * torch.tensor([0.5, 2.0], device=x.device),
        lambda x: x * torch.arange(2).to(x.device),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x[[1, 0]],
        lambda x: x[x > 0],
        lambda x: x * float(x.sum()),
        lambda x: x if x.isfinite().all() else -x,
        lambda x: x * x.cpu().to(x.device),
        lambda x: x.repeat_interleave(torch.ones(2, dtype=torch.int64, device=x.device)),
    ],
)
def test_what_waits_is_seen(wrong):
    found = set()
    for device in ("cpu", "meta"):
        with Watch(device) as watch:
            try:
                wrong(torch.rand(2, device=device))
            except (RuntimeError, NotImplementedError):
                # The meta device holds no numbers that could be read.
                watch.waits.add("what it reads")
        found |= watch.waits
    assert found
