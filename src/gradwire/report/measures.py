"""What a training reports of its task beside the loss: how each measure is called and printed."""

from typing import NamedTuple

from gradwire.report.formats import NOTHING, spread


class Measure(NamedTuple):
    """How a task's measure is called and printed: `factor` times the figure, to `digits` places, with its unit.

    `higher`: whether higher is better; None where nobody said, and the loss has to decide.
    """

    title: str
    factor: float = 1.0
    digits: int = 3
    unit: str = ""
    higher: bool | None = None

    def text(self, value: float, deviation: float | None = None) -> str:
        """As a table has it."""
        text = spread(self.factor * value, deviation and self.factor * deviation, self.digits)
        return text if text == NOTHING else f"{text}{self.unit}"

    def noun(self, value: float) -> str:
        """In a sentence: 75.0 % test accuracy, a test loss of 0.31."""
        return f"{self.text(value)} {self.title}" if self.unit else f"a {self.title} of {self.text(value)}"

    @property
    def caption(self) -> str:
        """For an axis."""
        return f"{self.title},{self.unit}" if self.unit else self.title


KNOWN = {
    "accuracy": Measure("test accuracy", 100, 1, " %", higher=True),
    "absolute_error": Measure("test absolute error", higher=False),
}
"""Measures of gradwire's own losses; others go by their names."""
LOSS = Measure("test loss", higher=False)


def words(measure: str) -> Measure:
    """How a measure is called and printed."""
    return KNOWN.get(measure) or Measure(f"test {measure.replace('_', ' ')}")


PER_CENT = (
    *("test_accuracy", "balanced_accuracy", "success", "accuracy", "fellow", "tpr_at_1e-2", "tpr_at_1e-3"),
    "attack_success",
)
"""Columns of shares that are shown, and compared, in per cent."""
