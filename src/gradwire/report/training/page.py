"""A training run's page and its table in the terminal."""

from collections.abc import Sequence

from gradwire.report.formats import part
from gradwire.report.page import Page, Section
from gradwire.report.rows import BASELINE
from gradwire.report.run import Run
from gradwire.report.tables import Table
from gradwire.report.training.figure import training_figure
from gradwire.report.training.series import Series, follow, training_table

NOTE = (
    "Bytes are the lengths of the serialised messages, headers included, summed from the first round on; the ratio is "
    "the size of the dense float32 updates over the bytes up. Figures are those of the last evaluation, not of the "
    "best; with several seeds, the mean ± sample standard deviation."
)


def page(run: Run) -> Page:
    """Where each scheme ended, how it came there, and every evaluation."""
    series = follow(run.rows)
    return Page(
        "What training cost, and how well it went",
        (
            Section("summary", "Where each scheme ended", training_table(series), note=NOTE),
            Section(
                "training",
                "Learning, by round and by bytes",
                draw=lambda theme: training_figure(series, theme),
                says="Loss and test accuracy against rounds and against megabytes sent up, one line per scheme; "
                "the table above holds the last figures.",
            ),
        ),
        headline(series),
        template="training.html.j2",
        content={"series": series},
    )


def brief(run: Run) -> Table:
    """Where each scheme ended, without bytes down and training loss."""
    return training_table(follow(run.rows), brief=True)


def headline(series: Sequence[Series]) -> str | None:
    """Beside `none`, what the scheme with the best last accuracy reaches and costs; None if nothing compares."""
    named = {one.name: one.points[-1] for one in series}
    plain = named.pop(BASELINE, None)
    if plain is None or not named:
        return None
    name, best = max(named.items(), key=lambda item: item[1].test_accuracy)
    return (
        f"At {part(best.ratio)}, {name} reaches {100 * best.test_accuracy:.1f} % test accuracy; "
        f"plain SGD reaches {100 * plain.test_accuracy:.1f} %"
    )
