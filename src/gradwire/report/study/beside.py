"""What leaks beside a secure sum: labels from the entries that clients chose, and membership from the largest value."""

from collections.abc import Sequence

from gradwire.report.figures import LIGHT, Figure, Theme, legend, panels, plain
from gradwire.report.rows import Row, number
from gradwire.report.tables import Table


def labels_table(rows: Sequence[Row]) -> Table:
    """One row a kind of union and number of clients."""

    def share(row: Row, name: str) -> str:
        return f"{100 * number(row, name):.0f}"

    lines = [
        {
            "union": row["label"],
            "labels found, %": share(row, "accuracy"),
            "95 % interval": f"{share(row, 'low')} to {share(row, 'high')}",
            "a fellow's, %": share(row, "fellow"),
            "chance, %": share(row, "chance"),
        }
        for row in rows
    ]
    return Table.of(lines, ("union",), "The same guess, compared with another client's labels.")


def labels_figure(rows: Sequence[Row], theme: Theme = LIGHT) -> Figure:
    """The share of labels found, with its interval; marks for a fellow's, a line for chance."""
    figure, (ax,) = panels(theme, 1, 1, width=7.4, height=3.6)
    places = range(len(rows))
    found = [100 * number(row, "accuracy") for row in rows]
    reach = [[abs(f - 100 * number(r, end)) for f, r in zip(found, rows, strict=True)] for end in ("low", "high")]
    ax.errorbar(places, found, reach, fmt="o", color=theme.lines[0], label="the victim's labels")
    ax.plot(places, [100 * number(r, "fellow") for r in rows], "s", color=theme.lines[1], label="a fellow's")
    ax.plot(places, [100 * number(r, "chance") for r in rows], "_", color=theme.ink, markersize=18, label="chance")
    ax.set_xticks(list(places), [plain(row["label"]).replace(", ", "\n") for row in rows], fontsize="small")
    ax.set(ylabel="labels found, %", ylim=(0, 104))
    legend(ax, theme, loc="best")
    return figure


def maximum_table(rows: Sequence[Row]) -> Table:
    """How well the largest value tells members from others, beside the loss."""
    columns = {"AUC by R_max": "auc_maximum", "AUC by the loss": "auc_loss", "rank correlation": "rank_correlation"}
    lines = [
        {"case": row["label"]} | {title: f"{number(row, name):.2f}" for title, name in columns.items()} for row in rows
    ]
    return Table.of(lines, words=("case",))


def maximum_figure(rows: Sequence[Row], theme: Theme = LIGHT) -> Figure:
    """Both AUCs as bars; half is what guessing reaches."""
    figure, (ax,) = panels(theme, 1, 1, width=4.2, height=3.0)
    row = rows[0]
    ax.bar(["R_max", "loss"], [number(row, "auc_maximum"), number(row, "auc_loss")], color=theme.lines[:2], width=0.5)
    ax.axhline(0.5, **theme.dotted)
    ax.set(ylabel="AUC: member or not", ylim=(0, 1))
    return figure
