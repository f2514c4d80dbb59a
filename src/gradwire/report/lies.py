"""An audit by a server that lies: which lie gives it one client's update, by the papers' protocol and by ours."""

from collections.abc import Sequence

from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number
from gradwire.report.run import Run
from gradwire.report.tables import Table


def lies_page(run: Run) -> Page:
    """Every lie against every scheme."""
    section = Section("lies", "What lies give the server", lies_table(run.rows))
    return Page("A server that lies", (section,), _finding(run.rows))


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
    ]
    return Table.of(lines, ("lie", "scheme", "what the server has"), note)


def _finding(rows: Sequence[Row]) -> str:
    won = [row for row in rows if number(row, "succeeds")]
    bound = sorted({str(row["lie"]) for row in won if "binding=false" not in str(row["scheme"])})
    bare = sorted({str(row["lie"]) for row in won if "binding=false" in str(row["scheme"])})
    ours = f"against bound masks: {', '.join(bound)}" if bound else "against bound masks none does"
    return f"Lies that succeed by the papers' protocol: {', '.join(bare) or 'none'}; {ours}"
