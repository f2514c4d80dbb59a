"""A benchmark of secure sums: what a client and the server spend, against the clients and against the entries."""

from collections.abc import Mapping, Sequence

from gradwire.report.figures import LIGHT, Axes, Figure, Theme, legend, panels, plain, ticks
from gradwire.report.formats import NOTHING, size
from gradwire.report.page import Page, Section
from gradwire.report.rows import Row, number
from gradwire.report.run import Run
from gradwire.report.tables import Table

ROUND = "round, "
"""The rows of whole rounds begin with this; these rows are drawn."""
MEASURED = "measured"
AGAINST = {"masking, ssga": "masking, sga", "later round, ssga": "later round, sga", "floor, ssga": "later round, sga"}
"""What is compared with what: sparse sums with dense ones of as many entries, among as many clients."""
SPENT = {"seconds_client": "a client, s", "seconds_server": "the server, s", "bytes_up": "a client sends"}


def costs_page(run: Run) -> Page:
    """What every part of a round takes."""
    section = Section(
        "costs",
        "What a round costs",
        cost_table(run.rows),
        (lambda theme: cost_figure(run.rows, theme)) if _rounds(run.rows) else None,
        "Seconds of a client and of the server and bytes that a client sends, against the number of clients and "
        "against the number of entries; the table above holds the figures.",
    )
    return Page("What secure sums cost", (section,))


def cost_table(rows: Sequence[Row]) -> Table:
    """Every row."""
    note = (
        "Seconds are the processor time that a party itself spends; bytes are those of a client's messages. A round is "
        "a first one, with its key exchange; a later round has its keys. “sga ÷” says how many times as long dense "
        "sums take as sparse ones (the aim at 200× is 50): for a client, and for all clients and the server together. "
        "The floor is the addition of gradient and residual alone, which remains however few entries are sent."
    )
    dense = {_key(row, str(row["what"])): row for row in rows if row["what"] in AGAINST.values()}
    return Table.of([_line(row, dense) for row in rows], ("what", "by", "how"), note)


def _line(row: Row, dense: Mapping[tuple[str | None, float, float], Row]) -> dict[str, str]:
    """Heading → cell."""
    client, everybody = _ratios(row, dense.get(_key(row, AGAINST.get(str(row["what"])))))
    return {
        "what": str(row["what"]),
        "by": str(row["by"]),
        **{name: f"{int(number(row, name)):,}" for name in ("clients", "entries", "bits")},
        "client, ms": _milliseconds(number(row, "seconds_client")),
        "server, ms": _milliseconds(number(row, "seconds_server")),
        "sent up": size(number(row, "bytes_up")),
        "sga ÷, client": client,
        "sga ÷, all": everybody,
        "how": str(row["how"]),
    }


def _milliseconds(seconds: float) -> str:
    ms = 1000 * seconds
    return NOTHING if ms != ms else f"{ms:.3g}" if ms < 1000 else f"{ms:,.0f}"


def _key(row: Row, what: str | None) -> tuple[str | None, float, float]:
    """What is measured, and of how many clients and entries."""
    return what, number(row, "clients"), number(row, "entries")


def _ratios(row: Row, dense: Row | None) -> tuple[str, str]:
    """How many times as long dense sums take: a client, and everybody."""
    if dense is None:
        return "", ""
    one, other = number(dense, "seconds_client"), number(row, "seconds_client")
    clients = number(row, "clients")
    all_of_them = (clients * one + number(dense, "seconds_server")) / (clients * other + number(row, "seconds_server"))
    client, everybody = (NOTHING if ratio != ratio else f"{ratio:.3g}×" for ratio in (one / other, all_of_them))
    return client, everybody


def cost_figure(rows: Sequence[Row], theme: Theme = LIGHT) -> Figure:
    """Above, against the clients at the fewest entries; below, against the entries at the fewest clients.

    Hollow marks are calculated from measured parts.
    """
    rounds = _rounds(rows)
    least = {axis: min(number(row, axis) for row in rounds) for axis in ("clients", "entries")}
    figure, axes = panels(theme, 2, 3, width=4.4, height=3.4)
    for line, (axis, fixed) in enumerate((("clients", "entries"), ("entries", "clients"))):
        drawn = [row for row in rounds if number(row, fixed) == least[fixed]]
        for column, (name, label) in enumerate(SPENT.items()):
            ax = axes[3 * line + column]
            _curves(ax, drawn, axis, name, theme)
            ax.set_title(f"{label}, at {int(least[fixed]):,} {fixed}", fontsize="medium")
            ax.set_xlabel(f"{axis} (log scale)")
    legend(axes[0], theme, loc="best")
    return figure


def _rounds(rows: Sequence[Row]) -> list[Row]:
    """The rows that are drawn."""
    return [row for row in rows if str(row["what"]).startswith(ROUND) and row["by"] == "gradwire"]


def _curves(ax: Axes, rows: Sequence[Row], axis: str, name: str, theme: Theme) -> None:
    for index, series in enumerate(dict.fromkeys(_series(row) for row in rows)):
        points = sorted((number(r, axis), number(r, name), r["how"] == MEASURED) for r in rows if _series(r) == series)
        look = theme.mark(index)
        ax.plot([p[0] for p in points], [p[1] for p in points], color=look["color"], linewidth=1.5, label=plain(series))
        for measured, fill in ((True, look["color"]), (False, theme.paper)):
            marked = [p for p in points if p[2] == measured]
            x, y = [p[0] for p in marked], [p[1] for p in marked]
            ax.plot(x, y, linestyle="none", markerfacecolor=fill, markersize=5, **look)
    ax.set(xscale="log", yscale="log")
    ticks(ax.yaxis, size if name == "bytes_up" else None)


def _series(row: Row) -> str:
    """The name of the row's curve. A threshold grows with the clients, and is named "dropouts", without its value."""
    scheme, _, options = str(row["what"]).removeprefix(ROUND).partition(":")
    named = ["dropouts" if part.startswith("threshold=") else part for part in options.split(",") if part]
    return ", ".join([scheme, *named])
