import pytest
import torch

from gradwire import capture, models
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, observation
from gradwire.training import gradient
from gradwire.training.client import carried_buffers


def victim(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 1, 8, 8, generator=generator), torch.randint(10, (1,), generator=generator)


@pytest.fixture
def model():
    return models.build("convnet", (1, 8, 8), 10, seed=0)


@pytest.mark.parametrize("adversary", ["server", "eavesdropper"])
@pytest.mark.parametrize("spec", ["none", "powersgd:rank=2", "topk:ratio=0.1"])
def test_the_view_holds_what_training_sends(model, spec, adversary):
    images, labels = victim()
    view = capture(model, images, labels, spec, adversary=adversary)
    scheme, seen = observation(view)
    _, update, _ = gradient(model, images, labels)
    decoded = scheme.decode(seen)
    error = Layout.of(update).flatten(update) - Layout.of(update).flatten(decoded)
    assert float(error.norm()) < (1e-6 if spec == "none" else float(Layout.of(update).flatten(update).norm()))
    assert view.bytes_up == sum(len(m.encode()) for m in view.messages if m.sender == "client:0")


@pytest.mark.parametrize("spec", ["none", "powersgd:rank=2", "topk:ratio=0.1"])
def test_a_fellow_takes_its_own_part_out_and_is_left_with_the_victims(model, spec):
    images, labels = victim()
    fellows = [victim(1)]
    fellow = capture(model, images, labels, spec, adversary="client", fellows=fellows)
    server = capture(model, images, labels, spec, fellows=fellows)
    assert fellow.adversary == "client:1"
    assert not any(m.sender == "client:0" for m in fellow.messages)
    scheme, seen = observation(fellow)
    ours, theirs = scheme.decode(seen), scheme.decode(observation(server)[1])
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-4)


def test_the_model_in_the_view_is_a_copy(model):
    view = capture(model, *victim())
    before = view.model.conv1.weight.clone()
    model.conv1.weight.data.zero_()
    assert torch.equal(view.model.conv1.weight, before)


def test_labels_are_in_the_view_only_when_assumed_known(model):
    assert capture(model, *victim()).targets is not None
    assert capture(model, *victim(), targets_known=False).targets is None


@pytest.mark.parametrize("spec", ["none", "topk:ratio=0.1", "powersgd:rank=2+sga"])
@pytest.mark.parametrize("adversary", ["server", "client"])
def test_running_statistics_travel_as_messages_and_are_counted(spec, adversary):
    network = models.build("resnet20", (3, 8, 8), 10, seed=0)
    batches = [(torch.rand(2, 3, 8, 8), torch.tensor([1, 2])) for _ in range(2)]
    view = capture(network, *batches[0], spec, adversary=adversary, fellows=batches[1:])
    _, _, expected = gradient(network, *batches[0])
    assert set(view.buffers) == set(carried_buffers(network))
    for name, value in view.buffers.items():
        torch.testing.assert_close(value, expected[name].to(value), atol=1e-5, rtol=1e-4)
    observation(view)[0].decode(observation(view)[1])
    if adversary == "server":
        sent = [len(m.encode()) for m in view.messages if m.sender == "client:0"]
        assert view.bytes_up == sum(sent)
        assert sent[-1] > sum(4 * value.numel() for value in view.buffers.values())


def test_evaluation_mode_sends_no_statistics():
    network = models.build("resnet20", (3, 8, 8), 10, seed=0)
    view = capture(network, torch.rand(1, 3, 8, 8), torch.tensor([1]), mode="eval")
    assert view.buffers is None
    assert {m.phase for m in view.messages} == {"update"}


def test_bad_input(model):
    images, labels = victim()
    with pytest.raises(GradwireError, match="unknown adversary 'god'; known: server, eavesdropper, client"):
        capture(model, images, labels, adversary="god")
    with pytest.raises(GradwireError, match="1 inputs have 0 targets; each needs one"):
        capture(model, images, labels[:0])
    with pytest.raises(GradwireError, match="needs a fellow"):
        capture(model, images, labels, adversary="client")
    model.conv1.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(GradwireError, match=r"gradient of 'conv1\.weight' is not finite"):
        capture(model, images, labels)
