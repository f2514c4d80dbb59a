"""A Hugging Face model fine-tuned under DistributedDataParallel, and what one of its steps gave away.

    torchrun --nproc-per-node 2 examples/finetune_ddp.py --text README.md --scheme powersgd:rank=16 --record step
    python examples/finetune_ddp.py --text README.md --audit step.0

The first command trains GPT-2 (from a configuration; `GPT2LMHeadModel.from_pretrained` does as well) on the lines of a
text, each worker on its own; every gradient is exchanged by a scheme of gradwire, and the first step is recorded. The
second one reads what worker 0 sent in that step, and prints the line that it was computed on.
"""

import argparse
import re
from pathlib import Path

import torch
import torch.distributed as dist
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import gradwire
from gradwire.rounds.recording import load
from gradwire.tasks import NextToken, Task, Tokens

parser = argparse.ArgumentParser()
parser.add_argument("--text", type=Path, required=True, help="a file with a text of some hundred lines or more")
parser.add_argument("--scheme", default="powersgd:rank=16")
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--length", type=int, default=24)
parser.add_argument("--record", help="write the first step of each worker to this file, with its rank appended")
parser.add_argument("--audit", help="attack the step in this file instead of training")
options = parser.parse_args()

lines = [line.strip() for line in options.text.read_text().splitlines() if len(re.findall(r"\w+", line)) > 3]
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
bpe.train_from_iterator(
    lines, trainers.BpeTrainer(vocab_size=1000, special_tokens=["[PAD]"], initial_alphabet=alphabet)
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="[PAD]")

torch.manual_seed(0)
sizes = {"vocab_size": len(tokenizer), "n_positions": options.length, "n_embd": 128, "n_layer": 2, "n_head": 4}
# Without dropout. What a network draws at random stays with the worker, and an attack on its layers would be refused.
still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
network = GPT2LMHeadModel(GPT2Config(**sizes, **still, bos_token_id=None, eos_token_id=None))


def train() -> None:
    """Fine-tune on the lines."""
    dist.init_process_group("gloo")
    coded = tokenizer(lines, padding="max_length", truncation=True, max_length=options.length, return_tensors="pt")
    examples = TensorDataset(coded["input_ids"], coded["attention_mask"])
    loader = DataLoader(examples, options.batch, sampler=DistributedSampler(examples), drop_last=True)
    model = DistributedDataParallel(network.train())
    state, hook = gradwire.ddp_hook(options.scheme, model)
    model.register_comm_hook(state, hook)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, (tokens, mask) in enumerate(loader):
        if step == options.steps:
            break
        state.record = bool(options.record) and step == 0
        optimizer.zero_grad()
        loss = model(input_ids=tokens, attention_mask=mask, labels=tokens.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        if step == 0 and options.record:
            state.save_transcript(f"{options.record}.{dist.get_rank()}")
    if dist.get_rank() == 0:
        print(f"loss {loss.item():.2f}, {state.bytes_up / 1e6:.2f} MB sent")
    dist.destroy_process_group()


def audit() -> None:
    """Attack a recorded step: its transcript, the network's architecture and the tokenizer are all that is needed."""
    (recorded,) = load(options.audit).values()
    vocabulary = tuple(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    task = Task(Tokens(options.length, vocabulary, pad=tokenizer.pad_token_id), NextToken(tokenizer.pad_token_id))
    view = recorded.view(network, (options.batch, options.length), task=task)
    guess = gradwire.invert(view, "dager")
    for note in guess.notes:
        print(note)
    for sentence in guess.inputs[0]:
        known = sentence[(sentence != tokenizer.pad_token_id) & (sentence >= 0)]
        print(f"{view.victim} in step {view.round}: {tokenizer.decode(known).strip()}")


audit() if options.audit else train()
