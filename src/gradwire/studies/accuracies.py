"""What the trainings of a grid reached."""

from collections.abc import Iterable

from gradwire.studies.grid import Row


def reached(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Label → the last test accuracy of each of its seeds, in per cent; rows are of trainings."""
    labelled: dict[str, list[Row]] = {}
    for row in rows:
        labelled.setdefault(row["label"], []).append(row)
    last = {label: max(int(row["round"]) for row in mine) for label, mine in labelled.items()}
    return {
        label: [100 * float(row["test_accuracy"]) for row in mine if int(row["round"]) == last[label]]
        for label, mine in labelled.items()
    }
