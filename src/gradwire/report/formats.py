"""Figures as text, the same in every table."""

import math

NOTHING = "–"
"""What a table holds where there is no figure."""


def size(count: float) -> str:
    """A number of bytes in decimal units: 532 B, 5.3 kB, 53 kB, 1.2 MB."""
    if math.isnan(count):
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{_short(count)} {unit}"


def plural(count: object, noun: str) -> str:
    """A count of things: 1 victim, 2 victims."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


def times(factor: float) -> str:
    """A factor: 0.029×, 1×, 4.2×, 38×."""
    return f"{factor:.2g}×" if 0 < factor < 0.95 else f"{_short(factor)}×"


def part(ratio: float) -> str:
    """A compression ratio in words: "1/38 of the bytes", or "1.3 times the bytes" for a scheme that sends more."""
    if ratio >= 1.05:
        return f"1/{_short(ratio)} of the bytes"
    return "all of the bytes" if ratio > 0.95 else f"{_short(1 / ratio)} times the bytes"


def percent(value: float | None) -> str:
    """A value that is in per cent already: 97 %."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.0f} %"


def spread(mean: float, deviation: float | None, digits: int = 2) -> str:
    """A mean and its standard deviation: 0.97 ± 0.02; the mean alone where the deviation is None."""
    if math.isnan(mean):
        return NOTHING
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def _short(value: float) -> str:
    text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
    return text.removesuffix(".0")
