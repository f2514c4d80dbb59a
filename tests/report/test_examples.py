"""Originals beside guesses, as sentences and as tables, with what is wrong marked for eyes and for ears."""

import json
import re

import pytest

from gradwire.report import pair, summarise, write
from gradwire.report.audit import examples
from gradwire.report.run import read


def seen(folder):
    run = read(folder)
    return examples.shown(run, pair(summarise(run.rows, run.domain)))


def put(folder, originals, guess) -> None:
    (folder / "examples.json").write_text(json.dumps({"originals": [[originals]], "none|fields|naive": [[guess]]}))


def words(*tokens: str):
    return [["", token] for token in tokens]


def guesses(*tokens: tuple[str, bool]):
    return [["", token, right] for token, right in tokens]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (("[CLS]", "a", "touch", "##ing", "one", "[SEP]"), "[CLS] a touching one [SEP]"),
        (("<s>", "It", "'s", "Ġtouch", "ing", "</s>"), "<s> It's touching </s>"),
        (("▁a", "▁touch", "ing", "▁one"), "a touching one"),
        (("0.5", "0.7", "-1"), "0.5 0.7 -1"),
    ],
)
def test_tokens_are_joined_as_their_tokenizer_marks_them(text_run, tokens, text: str) -> None:
    put(text_run, words(*tokens), guesses(*((token, True) for token in tokens)))
    (example,) = seen(text_run).shown
    assert example.text == text
    (piece,) = example.guesses[0].answers["naive"].text
    assert (piece.text, piece.wrong) == (text, False)


def test_neighbours_that_are_wrong_are_one_mark(text_run) -> None:
    put(text_run, words("a", "b", "##c", "d"), guesses(("a", True), ("x", False), ("##y", False), ("d", True)))
    answer = seen(text_run).shown[0].guesses[0].answers["naive"]
    assert answer.text == (("", "a", False), (" ", "xy", True), (" ", "d", False))
    assert (answer.right, answer.total, answer.missing) == (2, 4, 0)
    page = write(text_run).read_text()
    assert '<span class="wrong"><span class="unseen">[wrong: </span>xy<span class="unseen">]</span></span> d' in page


def test_tokens_that_are_missing_are_counted(text_run) -> None:
    put(text_run, words("a", "b", "c"), guesses(("a", True)))
    assert "1 of 3 right, 2 missing" in write(text_run).read_text()
    put(text_run, words("a", "b", "c"), [])
    assert "<em>nothing</em>" in write(text_run).read_text()


def test_a_table_has_a_row_a_field_with_both_guesses(table_run) -> None:
    page = write(table_run).read_text()
    body = re.search(r'<table class="fields">.*?</table>', page, re.DOTALL)
    rows = [re.sub(r"<[^>]*>", "", row) for row in re.findall(r"<tr>.*?</tr>", body[0], re.DOTALL)]
    assert " ".join(rows[0].split()) == "fieldoriginalnaive1 of 3 rightadaptive3 of 3 right"
    assert " ".join(rows[1].split()) == "age39 39 39"
    assert " ".join(rows[2].split()) == "hours40 ✗ wrong: not 40 40"
    assert "Prof-specialty | &lt;b&gt;" in page
    assert "<b>" not in page


def test_wrong_cells_have_a_sign_and_a_word_beside_their_colour(table_run) -> None:
    page = write(table_run).read_text()
    marked = '<span aria-hidden="true">✗ </span><span class="unseen">wrong: </span><span class="wrong">not 40</span>'
    assert marked in page
    assert ".wrong { text-decoration: underline wavy" in page


def test_of_wide_tables_the_wrong_fields_are_shown(table_run) -> None:
    wide = [[f"field {i}", str(i)] for i in range(100)]
    put(table_run, wide, [[name, text, int(text) not in (7, 90)] for name, text in wide])
    guess = seen(table_run).shown[0].guesses[0]
    assert (len(guess.places), guess.hidden) == (examples.FEW, 0)
    assert {7, 90} < set(guess.places)
    assert "88 more of 100 fields, all of them right" in write(table_run).read_text()
    put(table_run, wide, [[name, text, False] for name, text in wide])
    assert "60 more of 100 fields, 60 of them wrong" in write(table_run).read_text()


def test_of_wide_tables_the_rarer_values_stand_for_those_that_are_right(table_run) -> None:
    wide = [[f"place_{i}", "1" if i in (17, 80) else "0"] for i in range(100)]
    put(table_run, wide, [[name, text, True] for name, text in wide])
    assert {17, 80} < set(seen(table_run).shown[0].guesses[0].places)
    assert "place_<wbr>17" in write(table_run).read_text()


def test_fields_are_found_by_their_names(table_run) -> None:
    put(table_run, [["age", "39"], ["job", "clerk"]], [["job", "clerk", True]])
    answer = seen(table_run).shown[0].guesses[0].answers["naive"]
    assert answer.fields == (None, ("clerk", True))
    assert '<span aria-hidden="true">✗ –</span><span class="unseen">missing</span>' in write(table_run).read_text()


def test_the_first_are_open_and_the_others_folded(text_run) -> None:
    page = write(text_run).read_text()
    assert page.count('<div class="example">') == examples.OPEN
    assert page.count('<details class="example">') == 8 - examples.OPEN
    assert "victim 0, sentence 1" in page
    assert "&lt;script&gt;" in page


def test_of_many_the_first_are_shown(write_domain, monkeypatch) -> None:
    folder = write_domain({"name": "any", "what": "things", "scores": ["score"], "higher": True}, words("a", "b", "c"))
    monkeypatch.setattr(examples, "MOST", 3)
    assert "These are the first 3 of 8 things; examples.json beside this page holds all." in write(folder).read_text()


def test_a_scheme_without_guesses_has_no_heading(text_run) -> None:
    put(text_run, words("a"), guesses(("a", True)))
    (example,) = seen(text_run).shown
    assert [guess.pair.scheme for guess in example.guesses] == ["none"]
    (text_run / "examples.json").write_text(json.dumps({"originals": []}))
    assert seen(text_run) is None
