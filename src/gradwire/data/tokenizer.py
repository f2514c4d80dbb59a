"""Tokenizers: one trained on the training split, or one from a folder on this machine; nothing is fetched."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradwire.errors import GradwireError, in_line

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
"""The first tokens of a trained tokenizer, from 0: padding, a sentence's beginning and end, what is not known."""
LEAST = len(SPECIAL) + 256
"""A byte-level vocabulary has every byte."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """From text to token numbers.

    Attributes:
        of: the `tokenizers.Tokenizer`.
        vocabulary: each token as `gradwire.tasks.Tokens` has it: with a space before it where it begins a word.
        pad: the number of the token that fills up sentences.
        first: that of the token that begins a classifier's sentence, and `last`, of the one that ends it.
    """

    of: Any = field(repr=False)
    vocabulary: tuple[str, ...] = field(repr=False)
    pad: int
    first: int | None
    last: int | None

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The tokens of each sentence, without any that are added to it."""
        return [each.ids for each in self.of.encode_batch(list(sentences), add_special_tokens=False)]


@lru_cache(4)
def trained(sentences: tuple[str, ...], size: int) -> Tokenizer:
    """A byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) of at most `size` tokens, trained on sentences.

    The same sentences give the same tokens. `SPECIAL` come first.

    Raises:
        GradwireError: fewer tokens than `LEAST`, or `tokenizers` is not installed.
    """
    if size < LEAST:
        raise GradwireError(
            f"vocabulary is {size}; it must be {LEAST} or more: {len(SPECIAL)} special tokens, 256 bytes"
        )
    library = _library("tokenizers")
    bpe = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[3]))
    bpe.pre_tokenizer = library.pre_tokenizers.ByteLevel()
    bpe.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": size, "special_tokens": list(SPECIAL), "initial_alphabet": alphabet}
    bpe.train_from_iterator(sentences, library.trainers.BpeTrainer(show_progress=False, **options))
    return Tokenizer(bpe, readable(bpe), 0, 1, 2)


@lru_cache(4)
def from_folder(path: str) -> Tokenizer:
    """A tokenizer of `transformers` from a folder, or one of `tokenizers` from its tokenizer.json.

    Raises:
        GradwireError: it cannot be read, or it has no token for padding nor one for a text's end to take for it.
    """
    place = Path(path)
    if not place.exists():
        raise GradwireError(f"tokenizer {path!r} does not exist; give a folder of transformers or a tokenizer.json")
    try:
        library = _library("transformers")
        if place.is_dir():
            given = library.AutoTokenizer.from_pretrained(path, local_files_only=True)
        else:
            given = library.PreTrainedTokenizerFast(tokenizer_file=path)
        inner = given.backend_tokenizer
    except GradwireError:
        raise
    except Exception as error:  # the library has many errors for what a file may hold
        raise GradwireError(f"cannot load a tokenizer from {path!r}: {in_line(error)[:200]}") from error
    inner.no_padding()
    inner.no_truncation()
    # A file alone says which tokens there are, not what they are for, and is read by the usual names.
    names = [given.pad_token, given.cls_token, given.sep_token]
    pad, first, last = (
        inner.token_to_id(name) if name else next(filter(None, map(inner.token_to_id, usual)), None)
        for name, usual in zip(names, (("[PAD]", "<pad>"), ("[CLS]",), ("[SEP]",)), strict=True)
    )
    if pad is None and inner.token_to_id("[PAD]") == 0:
        pad = 0
    if pad is None and given.eos_token:
        # It stands in no sentence, for none is added.
        pad = inner.token_to_id(given.eos_token)
    if pad is None:
        raise GradwireError(f"tokenizer {path!r} has no padding token; give it one, such as [PAD]")
    return Tokenizer(inner, readable(inner), pad, first, last)


def readable(tokenizer: Any) -> tuple[str, ...]:
    """Each token of a `tokenizers.Tokenizer` as text, with a space before it where it begins a word.

    Bytes that are no text by themselves are written as \\xe2.
    """
    state = json.loads(tokenizer.to_str())
    special = {token["content"] for token in state["added_tokens"] if token["special"]}
    kinds = json.dumps([state["pre_tokenizer"], state["decoder"]])
    prefix = state["model"].get("continuing_subword_prefix") if state["model"]["type"] == "WordPiece" else None
    plain = "Metaspace" not in kinds and "ByteLevel" not in kinds
    known = tokenizer.get_vocab(with_added_tokens=True)
    found = [f"<{number}>" for number in range(max(known.values()) + 1)]
    for token, number in known.items():
        if token in special:
            found[number] = token
        elif "ByteLevel" in kinds:
            found[number] = _from_bytes(token)
        elif prefix and token.startswith(prefix):
            found[number] = token.removeprefix(prefix)
        else:
            found[number] = f" {token}" if plain or prefix else token.replace("▁", " ")
    return tuple(found)


def _from_bytes(token: str) -> str:
    """A byte-level token as text."""
    table = _bytes()
    if any(letter not in table for letter in token):
        return token
    return bytes(table[letter] for letter in token).decode("utf-8", errors="backslashreplace")


@lru_cache(1)
def _bytes() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Bytes that print as Latin-1 stand for themselves; the others, in their order, are the letters from 256 on.
    """
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise GradwireError(f"text needs {name} ({in_line(error)}); pip install 'gradwire[text]'") from None
