"""A membership run's page and its table in the terminal."""

from gradwire.report.membership import words
from gradwire.report.membership.figures import tradeoff_figure
from gradwire.report.membership.findings import findings, membership_table
from gradwire.report.page import Page, Section
from gradwire.report.run import Run
from gradwire.report.tables import Table


def page(run: Run) -> Page:
    """Every attack on every scheme, and the curves behind the figures where the run has them."""
    found = findings(run.rows)
    curves = Section(
        "curves",
        "Members found, for each share of false alarms",
        draw=lambda theme: tradeoff_figure(run.curves, found, theme),
        says="Share of members found against share of non-members suspected, one panel per scheme and one line per "
        "attack; the table above holds the figures at 1 and 0.1 per cent.",
        note="The dotted line is guessing. The left edge of a panel stands for no false alarm at all.",
    )
    return Page(
        "Who was in the training set?",
        (
            Section("summary", "Who was in the training set?", membership_table(found)),
            *([curves] if run.curves else []),
        ),
        words.headline(found),
        words.beside(found),
        "membership.html.j2",
        {"found": found, "meaning": words.FIGURES, "limits": words.LIMITS},
    )


def brief(run: Run) -> Table:
    """Figures without their intervals."""
    return membership_table(findings(run.rows), brief=True)
