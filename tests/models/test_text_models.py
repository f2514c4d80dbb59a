"""BERT, GPT-2 and folders: they train and are captured as they are, by the fast path, and say what does not fit."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from gradwire import capture, models
from gradwire.data import Dataset
from gradwire.engine import PATHS, engine
from gradwire.errors import GradwireError
from gradwire.schemes import observation
from gradwire.tasks import CrossEntropy, MeanSquaredError, NextToken, Pixels, Task, Tokens
from gradwire.tasks.given_losses import Reported
from gradwire.training import TrainSettings, begin, gradient, train
from gradwire.training.loop import evaluate

LENGTH, VOCABULARY = 10, 60
DOMAIN = Tokens(LENGTH, tuple(f" {number}" for number in range(VOCABULARY)), 0, 1, 2)
CLASSES = Task(DOMAIN, CrossEntropy(("a", "b", "c")))
NEXT = Task(DOMAIN, NextToken(0))
SIZE = "width=16,heads=2"
KINDS = [
    (f"bert:{SIZE}", CLASSES),
    (f"bert:{SIZE},lora=4", CLASSES),
    (f"gpt2:{SIZE}", CLASSES),
    (f"gpt2:{SIZE}", NEXT),
    (f"gpt2:{SIZE},tied=true", NEXT),
    (f"gpt2:{SIZE},lora=4", NEXT),
    (f"gpt2:{SIZE},tied=true,lora=4,lora_targets=c_attn+c_fc", NEXT),
]
IDS = [f"{spec}-{task.loss.name}" for spec, task in KINDS]


def network(spec, task, seed=0):
    return models.build(spec, task.domain.shape, task.loss.outputs, seed=seed, facts=task.domain.facts)


def batches(task, *size, seed=0):
    """Sentences of different lengths."""
    random = torch.Generator().manual_seed(seed)
    inputs = 3 + torch.randint(VOCABULARY - 3, (*size, LENGTH), generator=random)
    ends = torch.randint(3, LENGTH + 1, (*size, 1), generator=random)
    inputs = inputs.masked_fill(torch.arange(LENGTH) >= ends, 0)
    if task.loss.from_inputs:
        return inputs, task.loss.derived(inputs)
    return inputs, torch.randint(task.loss.outputs, size, generator=random)


def same(found, due, atol=1e-10, rtol=1e-7):
    assert found.keys() == due.keys()
    for name, expected in due.items():
        torch.testing.assert_close(found[name], expected, atol=atol, rtol=rtol)


@pytest.mark.parametrize(("spec", "task"), KINDS, ids=IDS)
def test_the_batched_path_gives_autograds_gradients(spec, task):
    model, (inputs, targets) = network(spec, task).double(), batches(task, 3, 2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, and then nothing reaches lora_A
            nn.init.normal_(parameter)
    chosen = engine(model, "eval", task, 2)
    assert (chosen.path, chosen.reasons) == ("batched", ())
    found = chosen.gradients(inputs, targets)
    for victim in range(3):
        _, due, _ = gradient(model, inputs[victim], targets[victim], "eval", task)
        same({name: g.full()[victim] for name, g in found.items()}, due)


@pytest.mark.parametrize(("spec", "task"), KINDS, ids=IDS)
def test_products_of_sparse_and_summed_gradients_are_those_of_the_gradient(spec, task):
    model, (inputs, targets) = network(spec, task).double(), batches(task, 3, 2)
    random = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    for gradients in PATHS["batched"](model, "eval", task)(inputs, targets).values():
        whole = gradients.full()
        torch.testing.assert_close(gradients.square(), whole.flatten(1).square().sum(1))
        same_as = normal(*whole.shape)
        torch.testing.assert_close(gradients.inner(same_as), (whole * same_as).flatten(1).sum(1))
        torch.testing.assert_close(gradients.rows(slice(1, 3)).full(), whole[1:3])
        indices = torch.randint(whole[0].numel(), (3, 5), generator=random)
        torch.testing.assert_close(gradients.entries(indices), whole.flatten(1).gather(1, indices))
        if whole.ndim == 3:
            right, left = normal(3, whole.shape[2], 2), normal(3, whole.shape[1], 2)
            torch.testing.assert_close(gradients.right(right), whole @ right)
            torch.testing.assert_close(gradients.left(left), whole.mT @ left)


@pytest.mark.parametrize(("spec", "task"), KINDS, ids=IDS)
def test_captures_hold_autograds_gradient(spec, task):
    model, (inputs, targets) = network(spec, task), batches(task, 2)
    view = capture(model, inputs, targets, "none", task=task, mode="eval")
    scheme, seen = observation(view)
    parameters = {name: p for name, p in model.eval().named_parameters() if p.requires_grad}
    named = {"input_ids": inputs, "attention_mask": (inputs != 0).long()}
    output = model(**named)
    if task.loss.from_inputs:
        value = model(**named, labels=targets).loss
    else:
        value = nn.functional.cross_entropy(output.logits, targets)
    due = torch.autograd.grad(value, list(parameters.values()))
    sent = scheme.decode(seen)
    assert sent.keys() == parameters.keys()
    for name, expected in zip(parameters, due, strict=True):
        torch.testing.assert_close(sent[name], expected, atol=1e-6, rtol=1e-4)
    assert (view.targets is None) == task.loss.from_inputs


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=2", "signsgd", "qsgd", "topk:ratio=0.05"])
@pytest.mark.parametrize(("spec", "task"), KINDS, ids=IDS)
def test_they_train(spec, task, scheme):
    dataset = Dataset("made", "train", *batches(task, 16), task)
    state = begin(TrainSettings(scheme, clients=2, rounds=2, batch_size=4), network(f"{spec},dropout=0.1", task))
    before = {name: p.clone() for name, p in state.model.named_parameters()}
    train(state, TrainSettings(scheme, clients=2, rounds=2, batch_size=4), dataset)
    moved = {name for name, p in state.model.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name, p in state.model.named_parameters() if p.requires_grad}
    assert moved
    assert moved <= trained
    assert {"loss", "accuracy"} == set(evaluate(state.model, dataset))


def test_a_tied_embedding_stays_tied_and_counts_once():
    model = network(f"gpt2:{SIZE},tied=true", NEXT)
    state = begin(TrainSettings(clients=2, rounds=1, batch_size=4), model)
    train(state, TrainSettings(clients=2, rounds=1, batch_size=4), Dataset("made", "train", *batches(NEXT, 8), NEXT))
    assert state.model.lm_head.weight is state.model.transformer.wte.weight
    untied = network(f"gpt2:{SIZE}", NEXT)
    assert untied.lm_head.weight is not untied.transformer.wte.weight


def test_the_loss_that_a_model_reports_is_the_tasks_own():
    for spec, task in ((f"gpt2:{SIZE}", NEXT), (f"bert:{SIZE}", CLASSES)):
        model, (inputs, targets) = network(spec, task).double(), batches(task, 4)
        inputs[:, 6:], reported = 0, Task(task.domain, Reported(task.loss))
        targets = task.loss.derived(inputs) if task.loss.from_inputs else targets
        found, due = (gradient(model, inputs, targets, "eval", each)[1] for each in (reported, task))
        # transformers computes the loss of the next token in float32.
        same(found, due, atol=1e-7, rtol=1e-4)
        chosen = engine(model, "eval", reported, 4)
        assert "reports one loss" in chosen.reasons[0]


def test_a_seed_decides_the_parameters_those_of_adapters_too():
    spec = f"bert:{SIZE},lora=4"
    first, second, other = (dict(network(spec, CLASSES, seed).named_parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], p) for name, p in second.items())
    assert not all(torch.equal(first[name], p) for name, p in other.items())


def test_adapters_alone_train_and_a_classifiers_head():
    trained = {name for name, p in network(f"bert:{SIZE},lora=4", CLASSES).named_parameters() if p.requires_grad}
    assert {name for name in trained if "lora" not in name} == {"classifier.weight", "classifier.bias"}
    model = network(f"gpt2:{SIZE},lora=4,lora_targets=c_fc", NEXT)
    assert all("c_fc.lora" in name for name, p in model.named_parameters() if p.requires_grad)
    assert model.transformer.h[0].mlp.c_fc.lora_A["default"].weight.shape == (4, 16)


def test_a_folder_gives_weights_or_an_untrained_model(tmp_path):
    model = network(f"gpt2:{SIZE}", NEXT)
    model.save_pretrained(tmp_path / "full")
    again = network(f"pretrained:folder={tmp_path / 'full'}", NEXT, seed=5)
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in model.named_parameters())
    classifier = network(f"pretrained:folder={tmp_path / 'full'},lora=2", CLASSES)
    assert CLASSES.logits(classifier, batches(CLASSES, 2)[0]).shape == (2, 3)
    model.config.save_pretrained(tmp_path / "bare")
    bare = network(f"pretrained:folder={tmp_path / 'bare'}", NEXT, seed=5)
    assert bare.num_parameters() == model.num_parameters()
    assert not torch.equal(bare.transformer.wte.weight, model.transformer.wte.weight)
    assert engine(again, "eval", NEXT, 1).path == "batched"


def test_a_folder_of_another_kind_of_model_is_refused_and_nothing_is_written(tmp_path, capfd):
    model = network(f"gpt2:{SIZE}", NEXT)
    model.save_pretrained(tmp_path, state_dict={"lm_head.weight": model.lm_head.weight})
    capfd.readouterr()
    with pytest.raises(GradwireError, match=r"has no weights for transformer\.h\.0"):
        network(f"pretrained:folder={tmp_path}", NEXT)
    model.save_pretrained(tmp_path / "full")
    capfd.readouterr()
    network(f"pretrained:folder={tmp_path / 'full'}", CLASSES)
    assert capfd.readouterr() == ("", "")


def test_a_number_may_be_told():
    task = Task(DOMAIN, MeanSquaredError(1))
    inputs, _ = batches(CLASSES, 2)
    assert gradient(network(f"bert:{SIZE}", task), inputs, torch.zeros(2, 1), "eval", task)[0] >= 0


def test_local_steps_are_simulated():
    for spec, task in KINDS[::2]:
        model, (inputs, targets) = network(spec, task), batches(task, 4)
        view = capture(model, inputs, targets, "none", task=task, mode="eval", local_steps=2, local_batch=2, lr=0.1)
        steps = engine(view.model, view.mode, task, 4, work=view.work)
        again = capture(model, inputs, targets, "none", task=task, mode="eval", local_steps=2, local_batch=2, lr=0.1)
        assert steps.path in ("functional", "plain")
        (first, second) = (observation(each)[0].decode(observation(each)[1]) for each in (view, again))
        same(first, second)


@pytest.mark.parametrize(
    ("spec", "task", "message"),
    [
        ("bert", NEXT, "bert is a classifier, and these data have no classes; take gpt2"),
        ("bert:width=10,heads=4", CLASSES, "width is 10 and heads is 4; heads must divide it"),
        ("gpt2:tied=true", CLASSES, "no scores of tokens to tie"),
        ("gpt2", Task(Tokens(4, ("a", "b"), pad=None), CLASSES.loss), "have no padding token"),
        ("gpt2:lora=-1", NEXT, "lora is -1; it must be 1 or more"),
        ("gpt2:lora=2,lora_targets=none_such", NEXT, "LoRA of rank 2 does not fit the model"),
        ("pretrained:folder=/none", NEXT, "folder '/none' has no config.json"),
        ("pretrained", NEXT, "pretrained needs a folder"),
        ("bert", Task(Pixels((1, 8, 8)), CLASSES.loss), "bert is a network of tokens, and these inputs are none"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(spec, task, message):
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        network(spec, task)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_larger_than_the_embedding_and_sentences_longer_than_the_positions_are_refused(tmp_path):
    network(f"gpt2:{SIZE}", NEXT).save_pretrained(tmp_path)
    spec = f"pretrained:folder={tmp_path}"
    larger = Task(Tokens(LENGTH, (*DOMAIN.vocabulary, "x"), 0), NEXT.loss)
    longer = Task(Tokens(LENGTH + 1, DOMAIN.vocabulary, 0), NEXT.loss)
    for task, message in (
        (larger, "the tokenizer has 61 tokens and the model's embedding 60 rows"),
        (longer, "sentences of 11 tokens do not fit the model's 10 positions; set length"),
    ):
        with pytest.raises(GradwireError, match=message):
            network(spec, task)
        model = network(f"gpt2:{SIZE}", NEXT)
        with pytest.raises(GradwireError, match=message):
            capture(model, 3 + torch.ones(1, task.domain.length, dtype=torch.int64), *_targets(task), "none", task=task)


def _targets(task):
    return (task.loss.derived(3 + torch.ones(1, task.domain.length, dtype=torch.int64)),)


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 3)

    def forward(self, input_ids, attention_mask):
        return {"hidden": self.table(input_ids)}


def test_an_output_without_logits_or_a_loss_is_refused():
    inputs, targets = batches(CLASSES, 2)
    with pytest.raises(GradwireError, match="it must give a tensor of logits"):
        capture(Silent(), inputs, targets, "none", task=CLASSES)
    with pytest.raises(GradwireError, match="without a loss"):
        Task(DOMAIN, Reported(CLASSES.loss)).loss({"hidden": targets}, targets)


def test_nothing_of_it_is_imported_before_it_is_used():
    code = (
        "import sys, gradwire, gradwire.data, gradwire.attacks, gradwire.training, gradwire.models.text\n"
        "gradwire.models.names(), gradwire.data.names()\n"
        "assert not {'transformers', 'tokenizers', 'peft', 'pandas'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("spec", "library"), [("bert", "transformers"), ("bert:lora=2", "peft")])
def test_without_the_extra_one_line_says_what_to_install(spec, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(GradwireError, match=re.escape("pip install 'gradwire[text]'")) as caught:
        network(spec, CLASSES)
    assert library in str(caught.value)
    assert "\n" not in str(caught.value)
