"""How much of a text another one holds: ROUGE (Lin 2004), and precision and recall of tokens as multisets and as sets.

ROUGE compares words, lower case and without punctuation, as the field's figures do; a token is often a part of one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

KINDS = ("rouge1", "rouge2", "rougeL")


def words(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, lower case."""
    return re.findall(r"\w+", text.lower())


def rouge(guess: str, truth: str) -> dict[str, float]:
    """The F1 of ROUGE-1, ROUGE-2 and ROUGE-L, by name; 0 where either text has no such part.

    A text of one word has no pair of words, so that its ROUGE-2 is 0 even against itself; so it is defined.
    """
    from torchmetrics.functional.text.rouge import rouge_score

    found = rouge_score(guess, truth, normalizer=str, tokenizer=words, rouge_keys=KINDS)
    return {kind: float(found[f"{kind}_fmeasure"]) for kind in KINDS}


def shared(guess: Iterable[int], truth: Iterable[int]) -> tuple[float, float]:
    """Precision and recall of guessed tokens; a token counts as often as it stands in both.

    Nothing guessed is no mistake and no help: precision and recall are 0.
    """
    ours, true = Counter(guess), Counter(truth)
    both = (ours & true).total()
    return both / max(1, ours.total()), both / max(1, true.total())


def f1(guess: Sequence[int], truth: Sequence[int]) -> float:
    """The harmonic mean of `shared`."""
    precision, recall = shared(guess, truth)
    return 2 * precision * recall / (precision + recall) if precision else 0.0
