"""Text as data: one tokenizer for both splits, columns of tables, and what is refused."""

import re

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from gradwire import data
from gradwire.data import tokenizer
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, MeanSquaredError, NextToken
from gradwire.tasks.losses import IGNORED

GOOD, BAD = "a lovely, moving film number {}.", "this dull film number {} bores"
FRAME = pd.DataFrame(
    {
        "review": [(GOOD if row % 2 else BAD).format(row) for row in range(40)],
        "verdict": ["good" if row % 2 else "bad" for row in range(40)],
        "stars": [float(row) for row in range(40)],
    }
)
EMPTY = FRAME.assign(review=["fine"] * 3 + [" "] + ["fine"] * 36)
SMALL = {"vocabulary": 300, "length": 24}


def source(frame=FRAME, column="review", target="verdict", **options):
    return data.text(frame, column, target, **SMALL | options)


def fails(message, make):
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_classes_have_sentences_between_their_ends():
    reviews = source()
    train, test = reviews("train"), reviews("test")
    assert len(train) + len(test) == 40
    assert train.task.loss == CrossEntropy(("bad", "good"))
    assert train.task.domain == test.task.domain
    assert train.inputs.shape[1] == 24
    domain = train.task.domain
    assert (domain.pad, domain.first, domain.last) == (0, 1, 2)
    for sentence, target in zip(train.inputs, train.targets, strict=True):
        text = domain.text(sentence)
        assert text in FRAME.review.tolist()
        assert ("lovely" in text) == bool(target)
        held = sentence[domain.mask(sentence)]
        assert (int(held[0]), int(held[-1])) == (1, 2)


def test_the_next_token_needs_no_target_and_no_ends():
    one = pd.concat([FRAME, pd.DataFrame({"review": ["x", "y", "z", "x", "y"]})], ignore_index=True)
    found = source(one, target="", task="next", vocabulary=400)("train")
    domain, loss = found.task.domain, found.task.loss
    assert loss == NextToken(0)
    assert (domain.first, domain.last) == (None, None)
    assert int(domain.mask(found.inputs).sum(1).min()) > 1
    assert torch.equal(found.targets, found.inputs.masked_fill(found.inputs == 0, IGNORED))


def test_a_number_may_be_told():
    assert source(target="stars", task="regress")("test").task.loss == MeanSquaredError(1)


def test_a_trained_tokenizer_is_the_same_each_time_and_knows_every_byte():
    sentences = tuple(FRAME.review)
    first, second = (tokenizer.trained.__wrapped__(sentences, 300) for _ in range(2))
    assert first.of.to_str() == second.of.to_str()
    assert first.vocabulary[:4] == ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    assert len(set(first.vocabulary)) == len(first.vocabulary)
    strange = "naïve café 日本 🙂"
    ids = first.encode([strange])[0]
    assert tokenizer.SPECIAL[3] not in [first.vocabulary[i] for i in ids]
    assert first.of.decode(ids).strip() == strange
    fails("vocabulary is 100; it must be 260 or more", lambda: tokenizer.trained(sentences, 100))


def test_the_tokenizer_is_of_the_training_split_whichever_is_loaded():
    test = pd.DataFrame({"review": ["zebra zebra zebra"] * 4, "verdict": ["bad", "good"] * 2})
    reviews = source({"train": FRAME, "test": test})
    assert " zebra" not in reviews("test").task.domain.vocabulary
    assert reviews("test").task.domain == reviews("train").task.domain


def test_usual_tokens_are_those_of_the_training_split():
    domain = source()("test").task.domain
    assert domain.vocabulary[domain.usual[0]] in (" film", " number", "film", "number", " f")
    assert 1 < len(domain.usual) < 24


def test_long_sentences_are_cut_and_keep_their_end():
    found = source(length=6)("train")
    assert found.inputs.shape[1] == 6
    assert found.inputs[:, -1].tolist() == [2] * len(found)
    fails("length is 3; it must be 4 or more", lambda: source(length=3)("train"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_named_by_their_path_and_column(tmp_path, suffix):
    path = tmp_path / f"reviews.{suffix}"
    FRAME.to_csv(path, index=False) if suffix == "csv" else FRAME.to_parquet(path)
    found = data.load(f"{path}:text=review,target=verdict,vocabulary=300,length=24", "test")
    assert torch.equal(found.inputs, source()("test").inputs)
    assert data.load(f"{path}:task=next,text=review,vocabulary=300", "train", 5).task.loss.name == "next_token"


def test_a_hugging_face_data_set_tells_its_classes():
    features = datasets.Features(
        {"review": datasets.Value("string"), "verdict": datasets.ClassLabel(names=["dull", "fine"])}
    )
    rows = datasets.Dataset.from_dict(
        {"review": FRAME.review.tolist(), "verdict": [row % 2 for row in range(40)]}, features=features
    )
    assert source(rows)("train").classes == ("dull", "fine")


def test_sst2_is_read_where_it_is_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADWIRE_DATA", str(tmp_path))
    (tmp_path / "sst2").mkdir()
    for split, count in (("train", 20), ("test", 4)):
        rows = {
            "idx": list(range(count)),
            "sentence": [f"{FRAME.review[row]} " for row in range(count)],
            "label": [row % 2 for row in range(count)],
        }
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / "sst2" / f"{split}-00000.parquet")
    found = data.load("sst2:vocabulary=300", "test")
    assert found.targets.tolist() == [0, 1, 0, 1]
    assert found.classes == ("negative", "positive")
    assert found.task.domain.text(found.inputs[1]) == FRAME.review[1]
    fails("train is 0; it must be 1 or more", lambda: data.load("sst2:train=0", "train"))


@pytest.mark.data
def test_the_real_sst2():
    found = data.load("sst2", "test")
    assert len(found) == 872
    assert int(found.targets.sum()) == 444
    assert found.task.domain.facts == {"vocabulary": 4096, "length": 64, "pad": 0}
    assert found.task.domain.text(found.inputs[0]) == "one long string of cliches ."


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("table has no column 'text'; it has review, verdict, stars", lambda: source(column="text")("train")),
        ("table has no column 'mood'", lambda: source(target="mood")("train")),
        ("no target column is named; say target=NAME, or task=next", lambda: source(target="")("train")),
        ("row 3 is an empty sentence", lambda: source({"train": EMPTY, "test": FRAME})("train")),
        ("row 0 holds 0.0; it must be text", lambda: source({"train": FRAME, "test": FRAME}, "stars")("train")),
        ("table has the splits train but no 'test'", lambda: data.text({"train": FRAME}, "review")),
        ("tokenizer '/none' does not exist", lambda: source(tokenizer="/none")("train")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(message, make):
    fails(message, make)


def test_a_tokenizer_comes_from_a_file_or_a_folder(tmp_path):
    from transformers import PreTrainedTokenizerFast

    trained = tokenizer.trained(tuple(FRAME.review), 300)
    trained.of.save(str(tmp_path / "tokenizer.json"))
    by_file = source(tokenizer=str(tmp_path / "tokenizer.json"))("test")
    assert torch.equal(by_file.inputs, source()("test").inputs)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=trained.of, **names).save_pretrained(tmp_path / "folder")
    by_folder = source(tokenizer=str(tmp_path / "folder"))("test")
    assert torch.equal(by_folder.inputs, by_file.inputs)
    assert by_folder.task.domain == by_file.task.domain


def test_letters_stand_for_the_bytes_that_the_library_has_them_for():
    from tokenizers import pre_tokenizers

    assert tokenizer._bytes().keys() == set(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    for text in map(chr, range(256)):
        ((letters, _),) = split(text)
        assert bytes(tokenizer._bytes()[letter] for letter in letters) == text.encode()


def test_parts_of_words_are_readable():
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "film": 1, "##s": 2}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert tokenizer.readable(pieces) == (" [UNK]", " film", "s")
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "film": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenizer.readable(words)[1] == " film"
