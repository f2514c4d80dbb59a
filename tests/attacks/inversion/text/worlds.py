"""Networks of text and what they read: tiny ones for known answers, and SST-2's sentences for figures."""

import os
from dataclasses import dataclass
from functools import lru_cache

import torch

import gradwire
from gradwire.tasks import CrossEntropy, NextToken, Task, Tokens

PAD, CLS, SEP, UNK = 0, 1, 2, 3


@dataclass(frozen=True)
class World:
    """A network, its task, and sentences (N, L) with their targets."""

    model: torch.nn.Module
    task: Task
    inputs: torch.Tensor
    targets: torch.Tensor

    def view(self, rows, scheme="none", fellows=(), **options):
        batches = [(self.inputs[list(each)], self.targets[list(each)]) for each in (rows, *fellows)]
        (inputs, targets), *others = batches
        return gradwire.capture(
            self.model, inputs, targets, scheme, task=self.task, fellows=others, mode="eval", **options
        )


def bert(vocabulary, width=128, layers=2, heads=4, length=64, seed=0, dropout=0.0):
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=length,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation="eager",
            pad_token_id=PAD,
        )
    ).eval()


def gpt2(vocabulary, width=128, layers=2, heads=4, length=64, seed=0, tied=False):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_positions=length,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            tie_word_embeddings=tied,
            attn_implementation="eager",
            bos_token_id=CLS,
            eos_token_id=SEP,
        )
    ).eval()


def tiny(kind="bert", vocabulary=50, width=16, length=12, sentences=16, shortest=5, seed=0, **options):
    """A tiny network and sentences at random of `shortest` to `length` tokens."""
    random = torch.Generator().manual_seed(seed + 1)
    rows = []
    for _ in range(sentences):
        n = int(torch.randint(shortest, length + 1, (1,), generator=random))
        row = torch.randint(4, vocabulary, (n,), generator=random).tolist()
        rows.append([CLS, *row[1:-1], SEP] if kind == "bert" else row)
    return world(kind, rows, torch.arange(sentences) % 2, vocabulary, width, length, heads=2, **options)


def world(kind, rows, labels, vocabulary, width, length, **options):
    """Sentences, lists of tokens, filled up to `length`."""
    names = tuple(map(str, range(vocabulary))) if isinstance(vocabulary, int) else tuple(vocabulary)
    inputs = torch.full((len(rows), length), PAD)
    for place, row in enumerate(rows):
        inputs[place, : len(row)] = torch.tensor(row)
    if kind == "bert":
        task = Task(Tokens(length, names, PAD, CLS, SEP), CrossEntropy(("negative", "positive")))
        return World(bert(len(names), width, length=length, **options), task, inputs, labels)
    task = Task(Tokens(length, names, PAD), NextToken(PAD))
    return World(gpt2(len(names), width, length=length, **options), task, inputs, task.loss.derived(inputs))


@lru_cache
def sst2(split="test"):
    """SST-2's sentences through a BPE of 4,096 tokens of its training split: (rows, labels, vocabulary)."""
    import pandas as pd
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    folder = os.environ["GRADWIRE_DATA"] + "/sst2/"
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    train = pd.read_parquet(folder + "train-00000.parquet")
    tokenizer.train_from_iterator(train.sentence.tolist(), trainer)
    chosen = train if split == "train" else pd.read_parquet(folder + "test-00000.parquet")
    rows = [tokenizer.encode(sentence.strip()).ids[:60] for sentence in chosen.sentence]
    names = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    return rows, torch.tensor(chosen.label.tolist()), tuple(names)


def sst2_world(kind, seed=0, split="test", **options):
    """SST-2's sentences and an untrained network of two layers of width 128."""
    rows, labels, names = sst2(split)
    framed = [[CLS, *row, SEP] for row in rows] if kind == "bert" else rows
    return world(kind, framed, labels, names, 128, 64, seed=seed, **options)
