"""Networks of every kind are captured and attacked as they are, or refused in one line."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, cross_entropy, layer_norm, scaled_dot_product_attention

from gradwire import capture, devices, invert
from gradwire.attacks.inversion.memory import row_bytes
from gradwire.attacks.inversion.statistics import Statistics
from gradwire.attacks.membership.wire_statistics import observe
from gradwire.engine import Networks, choose, engine, stack
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, in_mode, set_mode
from gradwire.schemes import observation
from gradwire.training import gradient
from gradwire.training.loop import evaluate
from tests.tasks import of

SHAPE = (3, 16, 16)


def batch(size=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(size, *SHAPE, generator=random), torch.arange(size) % 5


def convolutional(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), *middle, nn.Sigmoid(), nn.Flatten(), nn.Linear(512, 10))


def sent(view):
    scheme, seen = observation(view)
    return scheme.decode(seen)


class LayerNorm2d(nn.LayerNorm):
    """ConvNeXt's: over channels."""

    def forward(self, x):
        x = layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class FrozenBN(nn.BatchNorm2d):
    """Uses its running statistics, in training mode too."""

    def forward(self, x):
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def frozen():
    norm = FrozenBN(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize(
    ("norm", "path"),
    [(lambda: LayerNorm2d(8), "plain"), (frozen, "functional"), (lambda: nn.BatchNorm2d(8), "functional")],
)
def test_local_steps_are_simulated_as_the_client_takes_them_whatever_its_norms_are(norm, path):
    model, (images, labels) = convolutional(norm()), batch()
    view = capture(model, images, labels, local_steps=2, local_batch=2, lr=0.1)
    steps = engine(view.model, view.mode, view.task, view.shape[0], work=view.work)
    assert steps.path == path
    found = steps.gradients(images[None, None].expand(1, 2, *images.shape), labels[None])
    for name, due in sent(view).items():
        torch.testing.assert_close(found[name].full()[0], due, rtol=1e-4, atol=1e-6)


def test_statistics_of_a_subclass_are_those_of_the_network_as_it_is():
    model, (images, _) = convolutional(frozen(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), batch(4)
    found = Statistics(model, of(SHAPE), "train").distance(images.view(2, 2, *SHAPE))
    for victim in range(2):
        x = model[0](images[2 * victim : 2 * victim + 2])
        due = 0.0
        for layer in (model[1], model[3]):
            x = model[2](model[1](x)) if layer is model[3] else x
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            due += (mean - layer.running_mean).norm() + (variance - layer.running_var).norm()
        torch.testing.assert_close(found[victim], due)


class Mixing(nn.Module):
    """Subtracts the batch's mean: one victim's images shift another's."""

    def forward(self, x):
        return x - 3 * x.mean(0)


def test_statistics_of_a_network_that_mixes_examples_are_taken_one_victim_after_another():
    model, (images, _) = convolutional(Mixing(), nn.BatchNorm2d(8)), batch(4)
    prior = Statistics(model, of(SHAPE), "eval")
    together = prior.distance(images.view(2, 2, *SHAPE))
    alone = torch.cat(
        [Statistics(model, of(SHAPE), "eval").distance(images[None, 2 * i : 2 * i + 2]) for i in range(2)]
    )
    torch.testing.assert_close(together, alone)


class Attention(nn.Module):
    """One block of a vision transformer, by the function or by the layer that calls it."""

    def __init__(self, layer=False):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 10)
        self.mix = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) if layer else nn.Linear(16, 48)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        if isinstance(self.mix, nn.Linear):
            q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.mix(tokens).chunk(3, -1))
            tokens = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        else:
            tokens = self.mix(tokens)
        return self.head(tokens.mean(1))


class Recurrent(nn.Module):
    """Rows of pixels, one after another."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.rows, self.head = kind(48, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.rows(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


def normed(wrap):
    layers = wrap(nn.Conv2d(3, 8, 3, 2, 1)), nn.Sigmoid(), nn.Flatten(), wrap(nn.Linear(512, 10))
    return nn.Sequential(*layers)


@dataclass
class Output:
    """As Hugging Face's models give."""

    loss: None
    logits: torch.Tensor


class Wrapped(nn.Module):
    """A network whose logits are a part of what it gives."""

    def __init__(self, give):
        super().__init__()
        self.network, self.give = convolutional(), give

    def forward(self, x):
        return self.give(self.network(x))


utilities = torch.nn.utils
MODELS = {
    "attention": Attention,
    "an encoder layer": lambda: Attention(layer=True),
    "LSTM": Recurrent,
    "GRU": lambda: Recurrent(nn.GRU),
    "a tuple": lambda: Wrapped(lambda logits: (logits, None)),
    "a dict": lambda: Wrapped(lambda logits: {"features": None, "logits": logits}),
    "a data class": lambda: Wrapped(lambda logits: Output(None, logits)),
    "float64": lambda: convolutional(nn.BatchNorm2d(8)).double(),
    "half": lambda: convolutional(nn.BatchNorm2d(8)).half(),
    "bfloat16": lambda: convolutional(nn.GroupNorm(2, 8)).bfloat16(),
    "weight_norm": lambda: normed(utilities.weight_norm),
    "spectral_norm": lambda: normed(utilities.spectral_norm),
    "parametrized weight_norm": lambda: normed(utilities.parametrizations.weight_norm),
    "parametrized spectral_norm": lambda: normed(utilities.parametrizations.spectral_norm),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_network_is_trained_captured_and_attacked(name):
    torch.manual_seed(0)
    model, (images, labels) = MODELS[name](), batch()
    steps = {"local_steps": 2, "local_batch": 2, "lr": 0.01}
    for attack, how in (("iga", {}), ("fedavg", steps)):
        view = capture(model, images, labels, "topk:ratio=0.5", **how)
        guess = invert(view, attack, iterations=2)
        assert guess.inputs.shape == (1, 2, *SHAPE)
        assert guess.objective.isfinite().all()
    view = capture(model, images, labels, mode="eval")
    found = engine(view.model, "eval", view.task, view.shape[0]).gradients(images[None], labels[None])
    bits = 16 if name in ("half", "bfloat16") else 32
    for key, due in sent(view).items():
        off = float((found[key].full()[0].double() - due.double()).norm())
        assert off <= (0.05 if bits == 16 else 1e-4) * float(due.double().norm()) + 1e-6
    slopes = stack(model, of(SHAPE)).slopes(
        Networks.repeat(model, 2), torch.stack([images] * 2), torch.stack([labels] * 2)
    )
    assert slopes.losses.shape == (2,)
    assert row_bytes(model, of(SHAPE), 2) > 4 * sum(p.numel() for p in model.parameters())


def test_attention_is_differentiated_twice_as_by_its_definition():
    model, (images, labels) = Attention().double(), batch()
    found = engine(model, "train", of(SHAPE), 2)
    candidates = images.double()[None].requires_grad_()
    value = sum(g.square().sum() for g in found.gradients(candidates, labels[None]).values())
    (slope,) = torch.autograd.grad(value, candidates)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        alone = images.double().requires_grad_()
        gradients = torch.autograd.grad(
            cross_entropy(model(alone), labels), list(model.parameters()), create_graph=True
        )
        (due,) = torch.autograd.grad(sum(g.square().sum() for g in gradients), alone)
    torch.testing.assert_close(slope[0], due)


def test_layers_that_are_frozen_stay_so():
    model, (images, labels) = convolutional(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), batch(4)
    model[1].eval()
    own = copy.deepcopy(model)
    due = torch.autograd.grad(cross_entropy(own(images), labels), list(own.parameters()))
    view = capture(model, images, labels)
    chosen = engine(view.model, "train", view.task, view.shape[0])
    found = chosen.gradients(images[None], labels[None])
    slopes = stack(model, of(SHAPE)).slopes(Networks.repeat(model, 1), images[None], labels[None])
    for (name, message), exact in zip(sent(view).items(), due, strict=True):
        for got in (message, found[name].full()[0], slopes.gradients[name][0]):
            torch.testing.assert_close(got, exact, rtol=1e-3, atol=1e-6)
    assert torch.equal(slopes.buffers["1.running_mean"][0], model[1].running_mean)
    assert not torch.equal(slopes.buffers["3.running_mean"][0], model[3].running_mean)
    assert [module.training for module in model.modules()] == [module.training for module in own.modules()]


def test_what_a_mode_does():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    for start, mode, due in (
        (True, "train", [True, True, False]),
        (True, "eval", [False] * 3),
        (False, "train", [True] * 3),
        (False, "eval", [False] * 3),
    ):
        model.training = start
        before = [module.training for module in model.modules()]
        with in_mode(model, mode):
            assert [module.training for module in model.modules()] == due
        assert [module.training for module in model.modules()] == before
        assert [module.training for module in set_mode(copied(model), mode).modules()] == due
    with pytest.raises(GradwireError, match="mode is 'test'; it must be 'train' or 'eval'"):
        set_mode(model, "test")


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (
            lambda logits: logits[:, :1],
            r"shape \(2, 1\) for 2 inputs; it must be \(inputs, classes\), with two classes",
        ),
        (lambda logits: logits[:, 0], r"shape \(2,\) for 2 inputs; it must be \(inputs, classes\)"),
        (lambda logits: logits[:, :, None], r"shape \(2, 10, 1\) for 2 inputs"),
        (
            lambda logits: {"scores": logits},
            r"a dict; it must give a tensor of logits, .logits, \['logits'\] or a tuple",
        ),
        (lambda logits: None, "gives a NoneType"),
    ],
)
def test_outputs_without_logits_are_refused_by_name(give, words):
    model, (images, labels) = Wrapped(give), batch()
    for use in (
        lambda: gradient(model, images, labels * 0),
        lambda: engine(model, "train", of(SHAPE), 2),
        lambda: evaluate(model, Pictures(), batch=2),
    ):
        with pytest.raises(GradwireError, match=words):
            use()
    with pytest.raises(GradwireError, match="it must"):
        stack(model, of(SHAPE))


class Pictures:
    """Two images."""

    task = of(SHAPE)

    def __len__(self):
        return 2

    def batch(self, chosen):
        return batch()


class OneWay(torch.autograd.Function):
    """Has a slope, and the slope has none."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        raise NotImplementedError("there is no way back\nat all")


def test_a_network_without_slopes_is_refused_in_one_line():
    model, (images, labels) = Wrapped(OneWay.apply), batch()
    line = "model Wrapped in float32 cannot be differentiated: there is no way back"
    for use in (lambda: engine(model, "train", of(SHAPE), 2), lambda: stack(model, of(SHAPE))):
        with pytest.raises(GradwireError) as caught:
            use()
        assert str(caught.value) == line
    with pytest.raises(GradwireError, match=r"in train mode: there is no way back$"):
        gradient(model, images, labels)


def test_a_network_that_insists_on_float32_runs_by_the_plain_path():
    model = Wrapped(lambda logits: logits @ torch.eye(10))
    chosen = engine(model, "train", of(SHAPE), 2)
    assert chosen.path == "plain"
    assert "not functional: float64, in which paths are compared, fails" in chosen.notes[0]


def test_of_paths_that_are_right_the_first_is_chosen():
    due = torch.ones(2)

    def probe(name, model):
        assert next(model.parameters()).dtype == (torch.float64 if name != "plain" else next(model.parameters()).dtype)
        if name == "broken":
            raise IndexError
        return {"x": due + {"off": 1e-3, "close": 1e-9, "plain": 0.0}[name]}

    name, reasons = choose(("broken", "off", "close", "plain"), probe, nn.Linear(1, 1))
    assert name == "close"
    assert reasons == ("not broken: it fails: IndexError", "not off: it is wrong for x, by 0.0014 in 1.4")


def test_recurrent_layers_take_memory_for_their_gates():
    for kind, gates in ((nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)):
        model, steps = Recurrent(kind), 2 * SHAPE[1]
        parameters = sum(p.numel() for p in model.parameters())
        assert row_bytes(model, of(SHAPE), 2) >= 4 * (3 * parameters + 6 * steps * (gates * 32 + 32))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_copies_of_networks_with_weight_norm_share_nothing():
    model = normed(utilities.weight_norm)
    twin = copied(model)
    images, _ = batch()
    assert torch.equal(model(images), twin(images))
    with torch.no_grad():
        twin[0].weight_g += 1
    assert not torch.equal(model(images), twin(images))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_attacks_that_read_a_weights_gradient_refuse_one_that_is_no_parameter():
    torch.manual_seed(0)
    images, labels = batch()
    model = normed(utilities.weight_norm)
    assert invert(capture(model, images, labels, targets_known=False), iterations=1).targets.tolist() == [[0, 1]]
    model[3].bias.requires_grad_(False)
    with pytest.raises(GradwireError, match=r"labels cannot be inferred: 3\.bias, which would tell them, are frozen"):
        invert(capture(model, images, labels, targets_known=False), iterations=1)
    first = nn.Sequential(nn.Flatten(), utilities.weight_norm(nn.Linear(768, 10)))
    with pytest.raises(GradwireError, match="analytic needs the gradients of a weight and a bias; '1' lacks one"):
        invert(capture(first, images, labels), "analytic")


def test_a_cpu_without_bfloat16_products_says_so(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert devices.bf16_note("cpu") == ()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert "this CPU has no bfloat16 products" in devices.bf16_note("cpu")[0]
    assert devices.bf16_note("cuda:0") == ()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [utilities.spectral_norm, utilities.parametrizations.spectral_norm])
def test_what_a_forward_pass_writes_to_buffers_is_no_part_of_the_next(wrap):
    torch.manual_seed(0)
    images, labels = batch()
    chosen = engine(normed(wrap), "train", of(SHAPE), 2)
    first, second = (chosen.gradients(images[None], labels[None]) for _ in range(2))
    for name, found in first.items():
        assert torch.equal(found.full(), second[name].full())


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=2", "topk:ratio=0.1"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_membership_is_told_from_networks_of_every_type(dtype, scheme):
    images, labels = batch(4)
    views = [capture(convolutional().to(kind), images[:2], labels[:2], scheme) for kind in (torch.float32, dtype)]
    due, found = (observe([view], images, labels)["adaptive"].inner for view in views)
    torch.testing.assert_close(found, due, rtol=0.02, atol=0.02)
