"""The domain of a run's inputs, as config.json tells it: words for sentences, and names and figures of its scores."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradwire.errors import GradwireError
from gradwire.report.formats import NOTHING, spread

OPTION = "domain"
"""The entry of config.json, or of its settings, that says what the inputs are."""


class ScoreWords(NamedTuple):
    """How a score is called and printed.

    Attributes:
        title: in the head of a column. noun: in a sentence.
        meaning: what it measures, as the end of a sentence that begins with the title; "" where it is not known.
        form: of one figure. share: whether it lies between 0, nothing, and 1, everything.
    """

    title: str
    noun: str
    meaning: str = ""
    form: str = ".3g"
    share: bool = False


def _share(title: str, meaning: str, noun: str = "") -> ScoreWords:
    return ScoreWords(title, noun or f"share of {title}", meaning, ".3f", share=True)


KNOWN = {
    "ssim": ScoreWords("SSIM", "SSIM", "is 1 for identical structure, near 0 for none in common", ".3f", share=True),
    "psnr": ScoreWords("PSNR, dB", "PSNR", "is the peak signal-to-noise ratio", ".1f"),
    "mse": ScoreWords("MSE", "MSE", "is the mean squared error", ".2g"),
    "relative_error": ScoreWords(
        *("relative error", "relative error"),
        "is the length of what is wrong over the length of the original: 0 is identical, and all zeros would get 1",
        ".2g",
    ),
    "fields": _share(
        "fields right",
        "is the share of a row’s fields that are right; a number counts as right when it "
        "is within 0.319 of the field’s standard deviations",
    ),
    "numbers_right": _share("numbers right", "is the same share of the fields that hold numbers"),
    "categories_right": _share("categories right", "is the same share of the fields that hold categories"),
    "whole_rows": _share("whole rows", "is the share of rows in which every field is right"),
    "positions": _share("positions right", "is the share of positions that hold the right token"),
    "token_precision": _share(
        "token precision", "is the share of guessed tokens that are in the original, in any order", "token precision"
    ),
    "token_recall": _share(
        "token recall", "is the share of the original’s tokens that are in the guess, in any order", "token recall"
    ),
    "distinct_precision": _share(
        "distinct precision",
        "is the share of the guess’s distinct tokens that are in the batch",
        "precision of distinct tokens",
    ),
    "distinct_recall": _share(
        "distinct recall", "is the share of the batch’s distinct tokens that were found", "recall of distinct tokens"
    ),
    "exact": _share("exact", "is the share of sentences that are right from the first to the last token"),
    "rouge1": _share("ROUGE-1", "is the F-measure of single words", "ROUGE-1"),
    "rouge2": _share("ROUGE-2", "is that of pairs of words", "ROUGE-2"),
    "rougeL": _share("ROUGE-L", "is that of the longest common subsequence of words", "ROUGE-L"),
}
"""Scores of gradwire's own domains. Those of any other are printed under their names."""


@dataclass(frozen=True)
class RunDomain:
    """What a run's inputs are.

    Attributes:
        name: the domain's. what: what several inputs are called in sentences.
        scores: columns of results.csv with the scores of a guess, the leading one first.
        higher: whether a higher leading score gives away more.
        assumed: a sentence on what an adversary is assumed to know of the inputs; "" for nothing to be said.
        targets: a sentence on what it knows of the targets, where they are not simply known or inferred.
        success: the leading score from which on a victim counts as given away, or words for when it does; None where
            the run does not say.
    """

    name: str
    what: str
    scores: tuple[str, ...]
    higher: bool = True
    assumed: str = ""
    targets: str = ""
    success: float | str | None = None

    @classmethod
    def of(cls, told: Any, where: str) -> "RunDomain":
        """The domain that config.json tells; images for None, which is what runs of them once told.

        Raises:
            GradwireError: an entry that is missing or of another type; `where` says in which file.
        """
        if told is None:
            return PIXELS
        if not isinstance(told, Mapping):
            raise GradwireError(f"{where} has domain {told!r}; it should be an object with name, what and scores")
        kinds: dict[str, Any] = {
            "name": str,
            "what": str,
            "scores": list,
            "higher": bool,
            "assumed": str,
            "targets": str,
        }
        found = {"higher": True, "assumed": "", "targets": "", "success": None} | dict(told)
        for entry, kind in kinds.items():
            if not isinstance(value := found.get(entry), kind) or (entry in ("name", "what", "scores") and not value):
                raise GradwireError(f"{where} has domain.{entry} {value!r}; it should be a {kind.__name__}, not empty")
        success = found["success"]
        if success is None and found["name"] == PIXELS.name:
            success = PIXELS.success
        if success is not None and (isinstance(success, bool) or not isinstance(success, int | float | str)):
            raise GradwireError(f"{where} has domain.success {success!r}; it should be a number, or words")
        told = {entry: found[entry] for entry in kinds if entry != "scores"}
        return cls(**told, scores=tuple(map(str, found["scores"])), success=success)

    @property
    def pictures(self) -> bool:
        """Whether inputs are images."""
        return self.name == PIXELS.name

    @property
    def one(self) -> str:
        """What a single input is called: image, row, sentence, series, entry."""
        if self.what == "series" or not self.what.endswith("s"):
            return self.what
        return f"{self.what[:-3]}y" if self.what.endswith("ies") else self.what[:-1]

    @property
    def leading(self) -> str:
        """The column of the score that figures and sentences are about."""
        return self.scores[0]

    @property
    def words(self) -> ScoreWords:
        """Those of the leading score."""
        return score_words(self.leading)

    @property
    def threshold(self) -> float | None:
        """The leading score from which on a victim counts as given away, where that is what counts."""
        return None if isinstance(self.success, str) else self.success

    @property
    def bound(self) -> str:
        """The threshold with its sign, such as "≥ 0.6"; "" without one."""
        return "" if self.threshold is None else f"{'≥' if self.higher else '≤'} {self.threshold:g}"

    @property
    def criterion(self) -> str:
        """When a victim counts as given away; "" where the run does not say."""
        return f"{self.words.title} {self.bound}" if self.bound else str(self.success or "")

    def count(self, number: int) -> str:
        """One image, 3 images."""
        return f"one {self.one}" if number == 1 else f"{number} {self.what}"

    def best(self, values: Iterable[float]) -> float:
        """The value of the leading score that gives away most; NaN of none."""
        return (max if self.higher else min)(values, default=math.nan)

    def gain(self, score: float, beside: float) -> float:
        """How much more a leading score gives away than another one does."""
        return score - beside if self.higher else beside - score

    def gives_away(self, score: float) -> bool:
        """Whether a leading score counts as a success; never where no threshold decides it."""
        return self.threshold is not None and self.gain(score, self.threshold) >= 0

    def says(self, value: float, deviation: float | None = None, score: str = "") -> str:
        """A figure of a score (the leading one) as a table has it, with its deviation where there is one."""
        words = score_words(score or self.leading)
        if words.share or math.isnan(value):
            return spread(value, deviation)
        deviation_text = "" if deviation is None else f" ± {deviation:.2g}"
        return f"{value:{words.form}}{deviation_text}"

    def each(self, value: float, score: str) -> str:
        """One victim's figure."""
        return NOTHING if math.isnan(value) else f"{value:{score_words(score).form}}"


def score_words(name: str) -> ScoreWords:
    """The words for a column of scores; of one that gradwire does not know, its name."""
    title = name.replace("_", " ")
    return KNOWN.get(name) or ScoreWords(title, title)


PIXELS = RunDomain("pixels", "images", ("ssim", "psnr", "mse"), success=0.6)
"""Images: what a run attacks that names no domain."""
