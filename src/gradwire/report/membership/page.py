"""A membership run's page: the finding in sentences, every attack on every scheme, and their curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradwire.report.figures import LIGHT, Axes, Figure, Theme, legend, panels, plain, ticks, tiles
from gradwire.report.membership.findings import Finding, findings, membership_table
from gradwire.report.page import Page, Section
from gradwire.report.rows import AS_GIVEN
from gradwire.report.run import Run
from gradwire.report.tables import Table
from gradwire.runs import PERMUTED, read_table

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Who was in the training set?"
RATES = {"tpr_at_1e-3": ("one false alarm in 1,000", "0.1 %"), "tpr_at_1e-2": ("one false alarm in 100", "1 %")}
"""Figure → the rate in words, and the share of members that guessing finds at it."""
BLOCKS = (
    ("summary", "What the models' answers tell", lambda f: not (f.knowledge or f.optimistic or f.audit)),
    ("wire", "What the wire tells", lambda f: bool(f.knowledge) and not f.optimistic),
    ("canaries", "What canaries prove", lambda f: f.audit),
    ("optimistic", "Thresholds chosen on the answers: optimistic", lambda f: f.optimistic),
)
"""Tables of a page: the rows of each are about the same pairs of model and candidate."""


def membership_page(run: Run) -> Page:
    """Every attack on every scheme, and the curves behind the figures where the run has them."""
    found, what = findings(run.rows), "" if run.domain.pictures else run.domain.what
    blocks = [(name, title, [f for f in found if belongs(f)]) for name, title, belongs in BLOCKS]
    groups = {name: rows for name, _, rows in blocks if rows}
    sections = [Section(name, title, membership_table(rows, what=what)) for name, title, rows in blocks if rows]
    if run.curves:
        curves = Section(
            "curves",
            "Members found, for each share of false alarms",
            draw=lambda theme: tradeoff_figure(run.curves, found, theme),
            says="Share of members found against share of non-members suspected, one panel per scheme and one line per "
            "attack; the tables above hold the figures at 1 and 0.1 per cent.",
            note="The dotted line is guessing. The left edge of a panel stands for no false alarm at all.",
        )
        sections.append(curves)
    if drawn := self_test(run):
        told = "Each target's members were drawn anew among its candidates: nothing here is a leak."
        sections.append(Section("self-test", "Self-test: the same tables of a permuted truth", drawn, note=told))
    return Page(TITLE, tuple(sections), headline(found), beside(found), "membership.html.j2", {"groups": groups})


def self_test(run: Run) -> Table | None:
    """The table of the run's permuted truth, where it kept one."""
    path = run.folder / PERMUTED
    rows = read_table(path) if path.is_file() else []
    return membership_table(findings(rows)) if rows else None


def headline(found: Sequence[Finding]) -> str | None:
    """The attack that names most members at the lowest rate where one is beyond chance; None if no row says."""
    told = [f for f in found if not (f.optimistic or f.audit)]
    best = _best(told)
    if best is None:
        areas = [f.auc for f in told if f.auc.value == f.auc.value]
        if not areas:
            return None
        if turned := [area for area in areas if area.high < 0.5]:
            least = min(area.value for area in turned)
            return f"Members have the lower scores (AUC {least:.3f}): say --score-is loss if these are losses"
        most = max((area.high for area in areas if area.high == area.high), default=1.0)
        nothing = "No attack in this table was found to tell members from others better than chance would"
        return f"{nothing}; the intervals allow an AUC of up to {most:.2f}"
    named = " ".join(word for word in ("the", best.knowledge, best.attack, "attack") if word)
    area = f"AUC {best.auc.text(3, factor=1)}"
    if best.finds not in RATES:
        judged = [share for name, (_, share) in reversed(RATES.items()) if best.at(name).value == best.at(name).value]
        surer = f"at {' and '.join(judged)} false alarms it was not found to name more than guessing would"
        few = "no low rate of false alarms could be judged"
        tells = f"{named[0].upper()}{named[1:]} tells members of {_training(best)} from others, {area}"
        return f"{tells}; {surer if judged else few}"
    rate, guessing = RATES[best.finds]
    finds = f"At {rate}, {named} finds {_share(best)} of the members of {_training(best)}"
    return f"{finds}; guessing finds {guessing}. Over all rates: {area}"


def beside(found: Sequence[Finding]) -> str | None:
    """What the same attack finds in plain training, and what the loss attack finds where the headline has another."""
    best = _best([f for f in found if not (f.optimistic or f.audit)])
    if best is None or best.finds not in RATES:
        return None
    same = [f for f in found if not f.optimistic and f.at(best.finds).value == f.at(best.finds).value]
    plain = [f for f in same if f.plain and not best.plain and f.by == best.by]
    loss = [f for f in same if f.attack == "loss" != best.attack and f.name == best.name]
    said = [f"Of the members of plain training, it finds {_share(f, best.finds)}." for f in plain[:1]]
    for f in loss[:1]:
        accuracy = f"{100 * f.balanced_accuracy.value:.1f} %"
        finds = f"the loss attack finds {_share(f, best.finds)}, at a balanced accuracy of {accuracy}"
        said.append(f"Of {_training(best)}, {finds}.")
    return " ".join(said) or None


def tradeoff_figure(curves: Mapping[str, "Tensor"], found: Sequence[Finding], theme: Theme = LIGHT) -> Figure:
    """One panel a scheme, one line an attack; guessing is the diagonal.

    `curves`: "<scheme>|<attack>|<knowledge>" → shares of non-members and of members, (2, P), drawn for what was found.
    """
    names = {(f.scheme, f.by): f"{f.scheme}|{f.attack}|{f.knowledge}" for f in found}
    drawn = {key: curves[name] for key, name in names.items() if name in curves}
    schemes, attacks = (list(dict.fromkeys(key[index] for key in drawn)) for index in (0, 1))
    figure, axes = tiles(theme, len(schemes), width=5.6, height=4.6)
    # Zero has no place on a logarithmic axis: the left edge stands for less than one non-member.
    edge = 0.5 / max((f.nonmembers for f in found), default=1)
    for ax, scheme in zip(axes, schemes, strict=True):
        for index, attack in enumerate(attacks):
            if (scheme, attack) in drawn:
                fpr, tpr = drawn[scheme, attack].clamp_min(edge).tolist()
                ax.plot(fpr, tpr, drawstyle="steps-post", linewidth=1.7, label=plain(attack), **theme.stroke(index))
        _dress(ax, edge, theme)
        ax.set_title(plain(scheme), fontsize="medium", color=theme.ink)
    if schemes:
        legend(axes[0], theme, loc="lower right")
    return figure


def accuracy_figure(found: Sequence[Finding], theme: Theme = LIGHT) -> Figure:
    """Balanced accuracy of every attack on every scheme, with its interval; thresholds chosen on a shadow model."""
    found = [finding for finding in found if finding.threshold == "shadow"]
    names = list(dict.fromkeys(finding.name for finding in found))
    attacks = list(dict.fromkeys(finding.by for finding in found))
    figure, (ax,) = panels(theme, 1, 1, width=8.2, height=1.2 + 0.28 * len(names))
    for index, attack in enumerate(attacks):
        shown = [finding for finding in found if finding.by == attack]
        # Side by side, so that intervals do not hide each other.
        places = [names.index(f.name) + 0.6 * ((index + 0.5) / len(attacks) - 0.5) for f in shown]
        figures = [f.balanced_accuracy for f in shown]
        off = [[100 * (f.value - f.low) for f in figures], [100 * (f.high - f.value) for f in figures]]
        style = {"markersize": 4, "linewidth": 1, "linestyle": "none", **theme.mark(index)}
        ax.errorbar([100 * f.value for f in figures], places, xerr=off, label=plain(attack), **style)
    ax.axvline(50, **theme.dotted)
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("balanced accuracy, %; the dotted line is guessing")
    if attacks:
        legend(ax, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return figure


def _dress(ax: Axes, edge: float, theme: Theme) -> None:
    ax.plot([edge, 1], [edge, 1], **theme.dotted)
    ax.set(xscale="log", yscale="log", xlim=(edge, 1), ylim=(edge, 1.1))
    for axis in (ax.xaxis, ax.yaxis):
        ticks(axis, lambda value: f"{100 * value:g} %")
    ax.set(xlabel="non-members called members (log scale)", ylabel="members found (log scale)")


def _best(found: Sequence[Finding]) -> Finding | None:
    """The finding beyond chance at the lowest rate, and of several the one with the highest figure there."""
    order = ("tpr_at_1e-3", "tpr_at_1e-2", "auc")
    for figure in order:
        if several := [f for f in found if f.finds == figure]:
            return max(several, key=lambda f: f.at(figure).value)
    return None


def _training(finding: Finding) -> str:
    if finding.scheme == AS_GIVEN:
        return "the models that were given"
    return "plain training" if finding.plain else f"training with {finding.name}"


def _share(finding: Finding, figure: str = "") -> str:
    return f"{100 * finding.at(figure or finding.finds).value:.1f} %"
