"""A report on ε from the wire: what canaries prove of each scheme, beside what it claims."""

from collections.abc import Sequence
from math import isnan

from gradwire.report.formats import NOTHING
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number
from gradwire.report.run import Run
from gradwire.report.tables import Table

TITLE = "ε from the wire"


def epsilon_page(run: Run) -> Page:
    """One table, and a sentence on whether a bound is above its claim."""
    return Page(TITLE, (Section("epsilon", TITLE, epsilon_table(run.rows)),), headline(run.rows))


def headline(rows: Sequence[Row]) -> str | None:
    """The bound that is furthest above its claim, else the claim that a bound is nearest to; None without any claim."""
    claimed = [row for row in rows if not isnan(number(row, "epsilon_claimed"))]
    if not claimed:
        return None
    most = max(claimed, key=lambda row: number(row, "epsilon") / number(row, "epsilon_claimed"))
    bound, claim = number(most, "epsilon"), number(most, "epsilon_claimed")
    what = f"ε ≥ {bound:.2f} of {most['scheme']} ({most['canary']}), which claims {claim:.2f}"
    if bound > claim:
        sure = f"At {100 * number(most, 'confidence'):g} % confidence for the whole table"
        return f"{sure}, the wire proves {what}: its noise or its accounting is wrong"
    return f"No claim is refuted; nearest comes {what}"


def epsilon_table(rows: Sequence[Row], brief: bool = False) -> Table:
    """A line for each run."""
    lines = [_line(row, brief) for row in rows]
    confidences = sorted({f"{100 * number(row, 'confidence'):g} %" for row in rows})
    note = (
        "ε ≥: lower bounds, each at the δ of its line, from how many coins were guessed right: for a mechanism of "
        f"Gaussian noise, all together at {' or '.join(confidences)} confidence; and for any mechanism, each at 95 %. "
        "Claims are for the same neighbours."
    )
    return Table.of(lines, ("scheme", "canary", "neighbours"), "" if brief else note)


def _line(row: Row, brief: bool) -> dict[str, str]:
    guesses, claim = number(row, "canaries"), number(row, "epsilon_claimed")
    line = {
        "scheme": str(row["scheme"]),
        "canary": str(row["canary"]),
        "neighbours": str(row["adjacency"]),
        "right %": f"{100 * number(row, 'right') / guesses:.1f}",
        "of": f"{guesses:.0f}",
        "δ": f"{number(row, 'delta'):g}",
        "ε ≥": f"{number(row, 'epsilon'):.2f}",
        "any ≥": f"{number(row, 'epsilon_any'):.2f}",
        "claimed": NOTHING if isnan(claim) else f"{claim:.2f}",
    }
    return {title: cell for title, cell in line.items() if not brief or title not in ("of", "δ", "any ≥")}
