"""Transformers of tokens: BERT and GPT-2 from a configuration, others from a folder, all with LoRA where asked.

Each is a network of the `transformers` library (extra `text`), run with plain ("eager") attention, the gradients of
which the engine computes for many victims at once. Nothing is fetched: a folder is one on this machine.

A vocabulary, a length and a padding token come from the domain of the inputs (`gradwire.tasks.Tokens.facts`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gradwire.errors import GradwireError, in_line

EAGER = "eager"
HEADS = ("classifier", "score", "pooler")
"""Parts that a folder may lack: they are new where a model becomes a classifier."""
EXTRA = "pip install 'gradwire[text]'"


def bert(
    classes: int,
    vocabulary: int = 0,
    length: int = 0,
    pad: int | None = 0,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    lora: int = 0,
    lora_targets: str = "",
) -> nn.Module:
    """An untrained BERT (Devlin et al. 2019) for sequence classification: `BertForSequenceClassification`.

    Args:
        classes: outputs, 1 or more.
        vocabulary: tokens, rows of the embedding, and `length`, the longest sentence, rows of the position embedding.
        pad: the token that fills up sentences.
        width: of the hidden states; the feed-forward layers are four times as wide.
        lora: the rank of adapters (`adapted`); 0: all parameters train.
        lora_targets: names of the layers that get one, joined by `+`; by default those of attention.
    """
    _check_tokens("bert", vocabulary)
    if not classes:
        raise GradwireError("bert is a classifier, and these data have no classes; take gpt2 for the next token")
    library = _library("transformers")
    config = library.BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=length,
        hidden_size=_divided(width, heads),
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_labels=classes,
        pad_token_id=pad,
        attn_implementation=EAGER,
    )
    return adapted(library.BertForSequenceClassification(config), lora, lora_targets)


def gpt2(
    classes: int,
    vocabulary: int = 0,
    length: int = 0,
    pad: int | None = 0,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    tied: bool = False,
    lora: int = 0,
    lora_targets: str = "",
) -> nn.Module:
    """An untrained GPT-2 (Radford et al. 2019): of the next token (`GPT2LMHeadModel`), or of classes where there are.

    Args:
        classes: outputs of `GPT2ForSequenceClassification`, which reads them at a sentence's last token; 0: scores of
            the next token at every position.
        tied: whether the scores of the next token are products with the rows of the embedding.
        vocabulary: as `bert`, and so all others.
    """
    _check_tokens("gpt2", vocabulary)
    library = _library("transformers")
    config = library.GPT2Config(
        vocab_size=vocabulary,
        n_positions=length,
        n_embd=_divided(width, heads),
        n_layer=layers,
        n_head=heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        num_labels=classes or 2,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=pad,
        use_cache=False,
        attn_implementation=EAGER,
    )
    if not classes:
        return adapted(library.GPT2LMHeadModel(config), lora, lora_targets)
    if pad is None:
        raise GradwireError("gpt2 finds a sentence's last token by its padding, and these data have no padding token")
    if tied:
        raise GradwireError("gpt2 with classes has no scores of tokens to tie to the embedding; leave tied out")
    return adapted(library.GPT2ForSequenceClassification(config), lora, lora_targets)


def pretrained(
    classes: int,
    vocabulary: int = 0,
    length: int = 0,
    folder: str = "",
    pad: int | None = 0,
    lora: int = 0,
    lora_targets: str = "",
) -> nn.Module:
    """A model of `transformers` from a folder: its weights, or an untrained one where there is a config.json alone.

    Args:
        classes: outputs of a sequence classifier; 0: a causal model of the next token.
        folder: as `save_pretrained` leaves it.
        vocabulary: as `bert`, and so all others.

    Raises:
        GradwireError: a folder that cannot be read, or a model with fewer tokens or positions than the data have.
    """
    _check_tokens("pretrained", vocabulary)
    if not folder:
        raise GradwireError("pretrained needs a folder, as save_pretrained leaves it: pretrained:folder=PATH")
    library, place = _library("transformers"), Path(folder)
    if not (place / "config.json").is_file():
        raise GradwireError(f"folder {folder!r} has no config.json; give one that save_pretrained has written")
    kind = library.AutoModelForSequenceClassification if classes else library.AutoModelForCausalLM
    try:
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
        config.use_cache = False
        if classes:
            config.num_labels = classes
        if not classes and hasattr(config, "is_decoder"):
            config.is_decoder = True
        if classes and pad is not None:
            # By it a causal model finds a sentence's last token.
            config.pad_token_id = pad
        if any(place.glob("*.safetensors")) or any(place.glob("*.bin")):
            given = {"config": config, "local_files_only": True, "attn_implementation": EAGER}
            with _quiet(library):
                model, told = kind.from_pretrained(folder, output_loading_info=True, **given)
            lacking = [name for name in sorted(told["missing_keys"]) if not any(head in name for head in HEADS)]
            if lacking:
                raise GradwireError(f"folder {folder!r} has no weights for {lacking[0]}; it must be of such a model")
        else:
            model = kind.from_config(config, attn_implementation=EAGER)
    except GradwireError:
        raise
    except Exception as error:  # the library has many errors for what a folder may hold
        raise GradwireError(f"cannot load a model from {folder!r}: {in_line(error)[:200]}") from error
    check_sizes(model, vocabulary, length)
    if classes and config.pad_token_id is None:
        raise GradwireError(f"the model of {folder!r} has no pad_token_id, and the data no padding token to take")
    return adapted(model, lora, lora_targets)


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's progress bars and reports on standard error."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_sizes(model: nn.Module, vocabulary: int, length: int) -> None:
    """Refuse a model of `transformers` with fewer rows in its embedding than tokens, or fewer positions than needed."""
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    rows = getattr(embedding, "num_embeddings", vocabulary)
    if vocabulary > rows:
        raise GradwireError(
            f"the tokenizer has {vocabulary} tokens and the model's embedding {rows} rows; "
            "take the tokenizer that the model was made for (tokenizer=FOLDER)"
        )
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if isinstance(positions, int) and length > positions:
        raise GradwireError(f"sentences of {length} tokens do not fit the model's {positions} positions; set length")


def adapted(model: nn.Module, rank: int, targets: str = "") -> nn.Module:
    """The model with LoRA adapters (Hu et al. 2022) of this rank, its own parameters frozen; 0: as it is.

    The head of a classifier, which is new, trains along with them.

    Args:
        targets: names of the layers that get one, joined by `+`; by default `peft`'s for this kind of model (those of
            attention).
    """
    if not rank:
        return model
    if rank < 0:
        raise GradwireError(f"lora is {rank}; it must be 1 or more, the rank of the adapters, or 0 for none")
    peft = _library("peft")
    try:
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=targets.split("+") if targets else None,
            fan_in_fan_out=any(type(layer).__name__ == "Conv1D" for layer in model.modules()),
        )
        peft.inject_adapter_in_model(config, model)
    except Exception as error:
        raise GradwireError(f"LoRA of rank {rank} does not fit the model: {in_line(error)[:200]}") from error
    for name in ("classifier", "score"):
        if isinstance(head := getattr(model, name, None), nn.Module):
            head.requires_grad_(True)
    return model


def _check_tokens(name: str, vocabulary: int) -> None:
    """Refuse inputs without a vocabulary."""
    if not vocabulary:
        raise GradwireError(f"{name} is a network of tokens, and these inputs are none; take data that are text")


def _divided(width: int, heads: int) -> int:
    """The width, if so many heads can share it."""
    if heads < 1 or width < 1 or width % heads:
        raise GradwireError(f"width is {width} and heads is {heads}; heads must divide it")
    return width


def _library(name: str) -> Any:
    """A module of the extra `text`."""
    import importlib

    try:
        found: ModuleType = importlib.import_module(name)
    except ImportError as error:
        raise GradwireError(f"models of text need {name} ({in_line(error)}); {EXTRA}") from None
    return found
