"""What a grid measured, for claims: values of its rows, the accuracies that its trainings reached, counts in words."""

from collections.abc import Iterable

from gradwire.studies.grid import Row


def counted(number: int, noun: str) -> str:
    """Such as "1 client" and "2 clients"."""
    return f"{number} {noun}{'s' * (number > 1)}"


def values(rows: Iterable[Row], column: str, **told: str) -> list[float]:
    """The values of a column in the rows that have these values in other columns."""
    return [float(row[column]) for row in rows if all(row[name] == value for name, value in told.items())]


def reached(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Label → the last test accuracy of each of its seeds, in per cent; rows are of trainings."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["label"], {}).setdefault(int(row["round"]), []).append(100 * float(row["test_accuracy"]))
    return {label: rounds[max(rounds)] for label, rounds in found.items()}
