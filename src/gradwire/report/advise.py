"""A screening of schemes as a page: what to take, what it leaves open and what to run next; the front and the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradwire.report.figures import Figure, Theme, legend, panels, plain, ticks
from gradwire.report.formats import NOTHING, plural, size
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE, Row, number
from gradwire.report.run import Run
from gradwire.report.tables import Table

TITLE = "Which defence?"
FINAL = "screened to the end"
KINDS = ("dpsgd, which guarantees ε", "victims are given away", "no attack here succeeded", "cannot tell")
"""How schemes are marked in the figure."""
NOTE = (
    "Front: nothing else here is at least as good in leakage, accuracy and {cost}, as printed, and better in one; "
    "where leakage cannot be told (?), it counts as all given away. Given away: {criterion}. Intervals hold at 95 %, "
    "each for itself: of accuracy for other test examples, of the share given away for other victims of the same "
    "network. DP: the least ε of the dpsgd rows that come to that accuracy, in whole per cent."
)


def advise_page(run: Run) -> Page:
    """The three sentences; who came to the end, with a figure, and what can be told of each; and who did not."""
    rows, settings = run.rows, run.settings
    ended = [row for row in rows if row["state"] == FINAL]
    others = [row for row in rows if row["state"] != FINAL]
    sections = [
        Section(
            "front",
            "Who came to the end",
            advise_table(run),
            lambda theme: front_figure(ended, settings, theme),
            "Accuracy against a step's cost, a mark a scheme; the table above holds the figures.",
            "Names stand at none, at those on the front, and at dpsgd, by its ε; a hollow mark cannot be told.",
        ),
        Section("told", "What can be told", told_table(ended)),
    ]
    if others:
        sections.append(Section("others", "Who did not come to the end", others_table(others, settings)))
    return Page(TITLE, tuple(sections), headline(ended, settings), " ".join(sentences(rows, settings)))


def headline(ended: Sequence[Row], settings: Mapping[str, Any]) -> str:
    """The advice in a few words."""
    if all(row["scheme"] != BASELINE for row in ended):
        return "Nothing can be told"
    taken, safer = advised(ended, float(settings.get("give_up", 0)))
    return f"Take {taken['scheme']}" if safer else f"No defence was found; {taken['scheme']} is the cheapest"


def sentences(rows: Sequence[Row], settings: Mapping[str, Any]) -> tuple[str, str, str]:
    """What to take, what it does not protect from, what to run next."""
    ended = [row for row in rows if row["state"] == FINAL]
    plain_ = next((row for row in ended if row["scheme"] == BASELINE), None)
    if plain_ is None:
        why = next((f": {row['why']}" for row in rows if row["scheme"] == BASELINE), "")
        return (f"Nothing can be told: {BASELINE}, with which all is compared, did not run{why}.", "", "")
    taken, safer = advised(ended, float(settings.get("give_up", 0)))
    rate = f"at rate {number(taken, 'lr'):g} it comes to {_percent(taken)} accuracy ({BASELINE} to {_percent(plain_)})"
    step = f"a client’s step is {_cost(taken, settings)} ({_cost(plain_, settings)})"
    about = f"{rate}, {step}; {yardstick(taken, ended)}"
    points = f"{100 * float(settings.get('give_up', 0)):g} points of {BASELINE}’s accuracy"
    if safer:
        high, low = (100 * number(row, end) for row, end in ((taken, "high"), (plain_, "low")))
        least = f"at 95 % confidence at most {high:.0f} % of all, and under {BASELINE} at least {low:.0f} %"
        take = f"Take {taken['scheme']}{_sum(taken)}: the strongest attack gets {_given(taken)}, {least}; {about}."
    elif not number(plain_, "told"):
        short = f"the strongest attack gets only {_given(plain_)} under {BASELINE}"
        take = f"No defence can be named, for {short}; take {taken['scheme']} for its cost alone: {about}."
    else:
        found = f"of no scheme within {points} can it be told that it gives away less"
        take = f"No defence was found: {found}; take {taken['scheme']} for its cost alone: {about}."
    return take, leaves(taken, safer), following(taken, settings)


def advised(ended: Sequence[Row], give_up: float) -> tuple[Row, bool]:
    """The row to take, and whether it is for its leakage: then its interval is below that of `none`, and can be told.

    Otherwise it is the cheapest of those that give up no more accuracy than that.
    """
    plain_ = next(row for row in ended if row["scheme"] == BASELINE)
    least = number(plain_, "test_accuracy") - give_up
    usable = [row for row in ended if number(row, "test_accuracy") >= least and number(row, "front")]
    told = [row for row in usable if number(row, "told") and number(plain_, "told")]
    safer = [row for row in told if number(row, "high") < number(plain_, "low")]
    if safer:
        return min(safer, key=lambda row: (number(row, "high"), -number(row, "test_accuracy"))), True
    return min(usable or [plain_], key=lambda row: number(row, "cost")), False


def yardstick(row: Row, ended: Sequence[Row]) -> str:
    """The ε of dpsgd at this accuracy, in words."""
    private = [each for each in ended if each["epsilon"] and _family(each) == "dpsgd"]
    if not private:
        return "no dpsgd is beside it"
    if row in private:
        return f"it guarantees {_guarantee(row)}"
    if (least := _least(row, ended)) is not None:
        return f"dpsgd comes to this accuracy at {_guarantee(least)}"
    best = max(private, key=lambda each: (_whole(each), -number(each, "epsilon")))
    return f"dpsgd does not come to it here, but to {_percent(best)} at {_guarantee(best)}"


def leaves(row: Row, safer: bool) -> str:
    """What the advised scheme does not protect from."""
    open_ = []
    if not safer:
        doubt = f", and of the rest it cannot be told: {row['doubts']}" if row["doubts"] else ""
        open_.append(f"inversion: the server gets {_given(row)}{doubt}")
    if number(row, "summed") > 1:
        others = f"what the sum of {number(row, 'summed'):.0f} clients says of each"
        open_.append(f"{others}, fewer clients, and clients who help the server")
    if not row["epsilon"]:
        open_.append("an attack that nobody has tried, for it guarantees nothing")
    open_.append("membership inference, which was not tried")
    return f"What it does not protect from: {'; '.join(open_)}."


def following(row: Row, settings: Mapping[str, Any]) -> str:
    """The commands that come next."""
    shared = " ".join(f"--{name} {settings[name]}" for name in ("data", "model", "clients") if name in settings)
    schemes = " ".join(f"--scheme {spec}" for spec in dict.fromkeys((BASELINE, str(row["scheme"]))))
    more = 4 * int(settings.get("samples", 8))
    lie = f" and with --adversary active, gradwire audit --scheme {row['scheme']}" if number(row, "summed") > 1 else ""
    audit = f"gradwire audit {shared} {schemes} --samples {more} --seed 1"
    return f"Run next: {audit}{lie}; gradwire membership {shared} {schemes}."


def advise_table(run: Run, brief: bool = False) -> Table:
    """A line a scheme that came to the end, those on the front first. `brief` fits 80 characters."""
    settings, domain = run.settings, run.domain
    ended = [row for row in run.rows if row["state"] == FINAL]
    worst, lines = f"worst {domain.words.title}", []
    for row in sorted(ended, key=lambda row: -number(row, "front")):
        share = f"{100 * number(row, 'low'):.0f}–{100 * number(row, 'high'):.0f} %"
        within = f"{100 * number(row, 'accuracy_low'):.1f}–{100 * number(row, 'accuracy_high'):.1f} %"
        least = _least(row, ended)
        line = {
            "scheme": str(row["scheme"]),
            "front": "front" if number(row, "front") else "",
            "given away": f"{_of(row)}{'' if number(row, 'told') else ' ?'}" + ("" if brief else f" ({share})"),
            worst: domain.says(number(row, "worst")),
            "accuracy": _percent(row) + ("" if brief else f" ({within})"),
            "bytes up": size(number(row, "bytes_up")),
            "step": _cost(row, settings),
            "DP at this accuracy": f"ε {number(least, 'epsilon'):.3g}" if least else "none here",
        }
        lines.append(line)
    cost = "a step’s time" if settings.get("link") else "a step’s bytes both ways"
    note = NOTE.format(cost=cost, criterion=domain.criterion or "as the domain counts it")
    return Table.of(lines, ("scheme", "front"), "" if brief else note, (worst, "DP at this accuracy") if brief else ())


def told_table(ended: Sequence[Row]) -> Table:
    """What follows from the attacks on each scheme, what it guarantees, and the rate that it was trained with."""
    lines = [
        {
            "scheme": str(row["scheme"]),
            "rate": f"{number(row, 'lr'):g}",
            "guarantees": str(row["guarantee"]) or NOTHING,
            "what can be told of its leakage": verdict(row),
        }
        for row in ended
    ]
    return Table.of(lines, ("scheme", "guarantees", "what can be told of its leakage"))


def verdict(row: Row) -> str:
    """What the strongest attack's figures allow to say, of its leakage."""
    of = f" from the sum of {number(row, 'summed'):.0f} clients" if number(row, "summed") > 1 else ""
    said = f"gives away {_given(row)}{of}" if number(row, "given") else f"no attack here succeeded{of}"
    if not number(row, "told"):
        said = f"{said}; cannot tell more: {row['doubts']}" if number(row, "given") else f"cannot tell: {row['doubts']}"
    return said


def others_table(rows: Sequence[Row], settings: Mapping[str, Any]) -> Table:
    """Who was dropped on the way, with the figures of that rung, and who could not run, with the reason."""
    lines = [
        {
            "scheme": str(row["scheme"]),
            "became": f"{row['state']}: {row['why']}",
            "accuracy": _percent(row),
            "given away": _of(row),
            "step": _cost(row, settings),
        }
        for row in rows
    ]
    note = (
        "Dropped: others of its rung were better, as a front or the fronts behind it. Its figures are of less training "
        "and a shorter attack than those above: they are not to be compared, and say nothing for it."
    )
    return Table.of(lines, ("scheme", "became"), note)


def front_figure(ended: Sequence[Row], settings: Mapping[str, Any], theme: Theme) -> Figure:
    """Accuracy, with its interval, against what a client's step costs; marks by what can be told of leakage."""
    from matplotlib.ticker import LogLocator

    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=4.8)
    seen: dict[str, None] = {}
    for row in ended:
        kind, look = _kind(row), theme.mark(KINDS.index(_kind(row)))
        x, middle = number(row, "cost"), number(row, "test_accuracy")
        reach = [[middle - number(row, "accuracy_low")], [number(row, "accuracy_high") - middle]]
        fill = look["color"] if number(row, "told") else theme.paper
        style: dict[str, Any] = {"markersize": 7, "markerfacecolor": fill, "linestyle": "none", "zorder": 3}
        ax.errorbar([x], [middle], yerr=reach, label=None if kind in seen else kind, elinewidth=0.8, **look, **style)
        seen[kind] = None
        if number(row, "front") or row["scheme"] == BASELINE or kind == KINDS[0]:
            told = f"ε {number(row, 'epsilon'):.2g}" if kind == KINDS[0] else str(row["scheme"])
            place: dict[str, Any] = {"xytext": (7, 4), "textcoords": "offset points", "fontsize": "small"}
            ax.annotate(plain(told), (x, middle), color=theme.ink, **place)
    over = f"time of a client’s step over {settings['link']}" if settings.get("link") else "bytes of a client’s step"
    ax.set(xlabel=f"{over} (log scale)", ylabel="accuracy", xscale="log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ticks(ax.xaxis, _milliseconds if settings.get("link") else size)
    ticks(ax.yaxis, lambda value: f"{100 * value:.3g} %")
    legend(ax, theme, loc="best")
    return figure


def _kind(row: Row) -> str:
    """How a scheme is marked in the figure."""
    if row["epsilon"] and _family(row) == "dpsgd":
        return KINDS[0]
    if not number(row, "told"):
        return KINDS[3]
    return KINDS[1] if number(row, "given") else KINDS[2]


def _family(row: Row) -> str:
    return str(row["scheme"]).partition(":")[0]


def _whole(row: Row) -> int:
    return round(100 * number(row, "test_accuracy"))


def _percent(row: Row) -> str:
    return f"{100 * number(row, 'test_accuracy'):.1f} %" if row["test_accuracy"] not in ("", None) else NOTHING


def _of(row: Row) -> str:
    if row["victims"] in ("", None):
        return NOTHING
    return f"{number(row, 'given'):.0f} of {number(row, 'victims'):.0f}"


def _given(row: Row) -> str:
    return f"{number(row, 'given'):.0f} of {plural(int(number(row, 'victims')), 'victim')}"


def _sum(row: Row) -> str:
    n = number(row, "summed")
    return f", whose server sees only the sum of {n:.0f} clients" if n > 1 else ""


def _guarantee(row: Row) -> str:
    return str(row["guarantee"]).partition(" (")[0]


def _least(row: Row, ended: Sequence[Row]) -> Row | None:
    """The dpsgd row of least ε that comes to a row's accuracy."""
    private = [each for each in ended if each["epsilon"] and _family(each) == "dpsgd" and _whole(each) >= _whole(row)]
    return min(private, key=lambda each: number(each, "epsilon"), default=None)


def _cost(row: Row, settings: Mapping[str, Any]) -> str:
    if row["cost"] in ("", None):
        return NOTHING
    return _milliseconds(number(row, "cost")) if settings.get("link") else size(number(row, "cost"))


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.0995 else f"{1000 * seconds:.2g} ms"
