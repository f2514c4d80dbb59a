"""Originals and guesses that are no pictures: sentences and tables, with what is wrong marked."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from gradwire.report.audit.summary import KNOWLEDGE, Pair
from gradwire.report.run import Run

MOST = 24
"""Examples that are shown; the file beside the report holds the others."""
OPEN = 2
"""Examples that are not folded up."""
FIELDS, FEW = 40, 12
"""Fields of a table that are shown of one guess. Of wider tables those that are wrong, and others until there are a
few: those whose values fewest fields share, such as the ones in a row of zeros."""
_STARTS, _CONTINUES = ("Ġ", "▁"), "##"
"""How tokenizers mark a token before which there is a space, and one before which there is none."""


class Piece(NamedTuple):
    """Neighbouring tokens that are all right or all wrong, and the space before them."""

    gap: str
    text: str
    wrong: bool


class Answer(NamedTuple):
    """One guess of one example.

    Attributes:
        right: how many cells are right, of how many `total` the original has, and how many are `missing`.
        text: of a sentence, its pieces. fields: of a table, each field's value, and whether it is right; None where
            the guess has no such field.
    """

    right: int
    total: int
    missing: int
    text: tuple[Piece, ...] = ()
    fields: tuple[tuple[str, bool] | None, ...] = ()


class Guessed(NamedTuple):
    """What was guessed of one example from one scheme's messages: knowledge → answer.

    `places`: of a table, the fields that are shown; `hidden`, how many wrong ones are not.
    """

    pair: Pair
    answers: dict[str, Answer]
    places: tuple[int, ...] = ()
    hidden: int = 0


class Example(NamedTuple):
    """One original, with what was guessed of it.

    Attributes:
        caption: which it is. text: it as a sentence. names, values: it as a table; without names it is a sentence.
    """

    caption: str
    text: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    guesses: tuple[Guessed, ...]


class ShownExamples(NamedTuple):
    """What is shown of a run: the first `MOST` of all `total` examples, as tables or as sentences.

    `several`: whether a victim has more than one.
    """

    shown: tuple[Example, ...]
    total: int
    several: bool
    tables: bool
    open: int = OPEN


def shown(run: Run, pairs: Sequence[Pair]) -> ShownExamples | None:
    """The first examples of a run with what was guessed of each, in the order of `pairs`; None for a run without."""
    originals = run.examples.get("originals", [])
    places = [(v, b) for v, batch in enumerate(originals) for b in range(len(batch))]
    if not places:
        return None
    tables = any(name for victim in originals for example in victim for name, _ in example)
    several = any(len(batch) > 1 for batch in originals)
    style = _style([text for victim in originals for example in victim for _, text in example])
    found = []
    for victim, place in places[:MOST]:
        cells = originals[victim][place]
        names, values = (tuple(str(cell[i]) for cell in cells) for i in (0, 1))
        guesses = []
        for pair in pairs:
            answers = dict(_answers(run, pair, victim, place, names if tables else None, len(cells), style))
            if answers:
                guesses.append(Guessed(pair, answers, *(_places(answers, values) if tables else ())))
        caption = f"victim {victim}, {run.domain.one} {place}" if several else f"victim {victim}"
        text = "".join(f"{gap}{word}" for gap, word in _spaced(values, style)).strip()
        found.append(Example(caption, text, names if tables else (), values, tuple(guesses)))
    return ShownExamples(tuple(found), len(places), several, tables)


def _answers(
    run: Run, pair: Pair, victim: int, place: int, names: Sequence[str] | None, total: int, style: str
) -> Iterator[tuple[str, Answer]]:
    """Knowledge → the answer, for the adversaries whose guesses the run has. `names`: a table's fields."""
    for knowledge in KNOWLEDGE:
        victims = run.examples.get(f"{pair.scheme}|{pair.setting.attack}|{knowledge}", [])
        if victim >= len(victims) or place >= len(victims[victim]):
            continue
        cells = victims[victim][place]
        counts = (sum(bool(cell[2]) for cell in cells), total, max(0, total - len(cells)))
        if names is None:
            yield knowledge, Answer(*counts, text=tuple(_pieces(cells, style)))
        else:
            by_name = {str(name): (text, bool(right)) for name, text, right in cells}
            yield knowledge, Answer(*counts, fields=tuple(by_name.get(name) for name in names))


def _places(answers: Mapping[str, Answer], values: Sequence[str]) -> tuple[tuple[int, ...], int]:
    """The fields that are shown, in the table's order, and how many wrong ones are not."""
    everything = range(len(values))
    if len(values) <= FIELDS:
        return tuple(everything), 0
    cells, shared = [answer.fields for answer in answers.values()], Counter(values)
    wrong = [place for place in everything if any(not (each[place] or ("", False))[1] for each in cells)]
    right = sorted(set(everything) - set(wrong), key=lambda place: (shared[values[place]], place))
    found = [*wrong[:FIELDS], *right[: max(0, FEW - len(wrong))]]
    return tuple(sorted(found)), max(0, len(wrong) - FIELDS)


def _pieces(cells: Sequence[Sequence[object]], style: str) -> Iterator[Piece]:
    """The tokens of a guess, joined as far as neighbours are alike."""
    words = _spaced([str(text) for _, text, _ in cells], style)
    for wrong, group in groupby(zip(words, cells, strict=True), key=lambda each: not each[1][2]):
        (gap, first), *rest = (word for word, _ in group)
        yield Piece(gap, first + "".join(f"{space}{word}" for space, word in rest), wrong)


def _style(tokens: Sequence[str]) -> str:
    """How a tokenizer marks words: it marks their starts, or what continues them, or every token is a word."""
    if any(token.startswith(_STARTS) for token in tokens):
        return "starts"
    return "continues" if any(token.startswith(_CONTINUES) for token in tokens) else "words"


def _spaced(tokens: Sequence[str], style: str) -> list[tuple[str, str]]:
    """The space before each token, and the token without its mark. Those as [CLS] or </s> stand alone."""
    found: list[tuple[str, str]] = []
    alone = True
    for token in tokens:
        special = len(token) > 2 and token[0] + token[-1] in ("[]", "<>")
        if style == "starts":
            started = token.startswith(_STARTS)
            gap, text = (" " if started or special or alone else ""), token[1:] if started else token
        else:
            continued = style == "continues" and token.startswith(_CONTINUES)
            gap, text = ("" if continued and not alone else " "), token[2:] if continued else token
        found.append((gap if found else "", text))
        alone = special
    return found
