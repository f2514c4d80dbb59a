"""Networks of tokens from a configuration, and a tokenizer trained on given sentences."""

import torch
from torch import nn


def tokenizer(sentences, size):
    """A byte-level BPE; tokens 0 to 3 are [PAD], [CLS], [SEP] and [UNK]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE(unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.ByteLevel()
    special, alphabet = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(sentences, trainer)
    return found


def gpt2(vocabulary, length, width, tied=False, seed=0, dropout=0.0):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    sizes = {"vocab_size": vocabulary, "n_positions": length, "n_embd": width, "n_layer": 2, "n_head": 4}
    chance = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0, "tie_word_embeddings": tied}
    return GPT2LMHeadModel(GPT2Config(**sizes, **chance, **tokens, use_cache=False, attn_implementation="eager"))


def bert(vocabulary, length, width, seed=0):
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    sizes = {"vocab_size": vocabulary, "max_position_embeddings": length, "hidden_size": width}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 4 * width}
    chance = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**sizes, **layers, **chance, pad_token_id=0, attn_implementation="eager")
    return BertForSequenceClassification(config)


def lora(model: nn.Module, rank, targets, seed=0):
    """The model with LoRA's adapters, all else frozen; their B are zero."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, target_modules=targets, lora_dropout=0.0, fan_in_fan_out=True)
    return inject_adapter_in_model(config, model)


def step(model, inputs, task, lr=0.1):
    """One step of SGD, so that LoRA's B are no longer zero."""
    model.eval()
    loss = task.value(model, inputs, task.loss.derived(inputs))
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, slope in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter -= lr * slope
