"""An audit by a server that lies: which lie gives it one client's update, by the papers' protocol and by ours."""

from collections.abc import Sequence

from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number
from gradwire.report.run import Run
from gradwire.report.tables import Table


def lies_page(run: Run) -> Page:
    """Every lie against every scheme, and what a conformance test found."""
    told = Section("lies", "What lies give the server", lies_table(run.rows))
    found = [Section("conformance", "Conformance", checks_table(run.rows))] if _checks(run.rows) else []
    return Page("A server that lies", (told, *found), _finding(run.rows))


def lies_table(rows: Sequence[Row]) -> Table:
    """A line a lie and scheme, the papers' protocol first."""
    note = (
        "Schemes with binding=false are the papers' protocols, which trust the server. The correlation is that of what "
        "the server has with the victim's own values; from 0.9 on the lie has succeeded. Under “none” the server keeps "
        "to the protocol. An imprint layer that all clients get alike is no lie to one of them: only noise "
        "(`dp=`) or clients that check the model stop it."
    )
    lines = [
        {
            "lie": str(row["lie"]),
            "scheme": str(row["scheme"]),
            "correlation": f"{number(row, 'correlation'):.2f}",
            "what the server has": str(row["outcome"]),
        }
        for row in rows
        if row["correlation"] != ""
    ]
    return Table.of(lines, ("lie", "scheme", "what the server has"), note)


def checks_table(rows: Sequence[Row]) -> Table:
    """A line a check and implementation."""
    lines = [
        {
            "check": str(row["lie"]),
            "of": str(row["scheme"]),
            "passed": "no" if number(row, "succeeds") else "yes",
            "what was found": str(row["outcome"]),
        }
        for row in _checks(rows)
    ]
    return Table.of(
        lines, ("check", "of", "passed", "what was found"), "Whole rounds by each implementation's own code."
    )


def _checks(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["correlation"] == ""]


def _finding(rows: Sequence[Row]) -> str:
    of: dict[str, dict[str, None]] = {"the papers' protocol": {}, "bound masks": {}}
    for row in rows:
        name = str(row["scheme"]).partition(":")[0]
        whose = "the papers' protocol" if "binding=false" in str(row["scheme"]) else "bound masks"
        won = of.setdefault(name if name.startswith("flower") else whose, {})
        if row["correlation"] != "" and number(row, "succeeds"):
            won[str(row["lie"])] = None
    said = [f"against {whose}: {', '.join(sorted(won)) or 'none'}" for whose, won in of.items()]
    return f"Lies that succeed {'; '.join(said)}"
