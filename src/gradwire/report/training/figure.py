"""Learning curves of a training run: loss and accuracy against rounds, and against what they cost on the wire."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradwire.report.figures import LIGHT, MARKERS, Theme, panels, plain
from gradwire.report.formats import size
from gradwire.report.training.series import Series

_STROKES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)))


def training_figure(series: Sequence[Series], theme: Theme = LIGHT) -> Figure:
    """Test loss (faint: training loss) and test accuracy in per cent, against rounds and against bytes sent up."""
    figure, axes = panels(theme, 2, 2, width=5.2, height=3.4)
    for index, one in enumerate(series):
        # Nothing has been sent before the first round, and zero has no place on a logarithmic axis.
        sent = [point for point in one.points if point.bytes_up > 0]
        by_round, by_bytes = [point.round for point in one.points], [point.bytes_up for point in sent]
        for column, (x, points) in enumerate(((by_round, one.points), (by_bytes, sent))):
            losses, accuracies = axes[column], axes[2 + column]
            _line(losses, x, [p.train_loss for p in points], index, one.name, theme, faint=True)
            _line(losses, x, [p.test_loss for p in points], index, one.name, theme)
            _line(accuracies, x, [100 * p.test_accuracy for p in points], index, one.name, theme)
    every = [point.bytes_up for one in series for point in one.points if point.bytes_up > 0]
    # Within a decade a logarithmic axis may have no tick at all.
    wide = bool(every) and max(every) >= 10 * min(every)
    for column, label in enumerate(("rounds", "bytes sent up (log scale)" if wide else "bytes sent up")):
        axes[column].set_ylabel("loss: test, and training (faint)")
        axes[2 + column].set_ylabel("test accuracy, %")
        axes[2 + column].set_xlabel(label)
    for ax in (axes[1], axes[3]):
        ax.set_xscale("log" if wide else "linear")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    handles, names = axes[2].get_legend_handles_labels()
    style: dict[str, Any] = {"frameon": False, "labelcolor": theme.ink, "fontsize": "small"}
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(series)), **style)
    return figure


def _line(
    ax: Axes, x: Sequence[float], y: Sequence[float], index: int, name: str, theme: Theme, faint: bool = False
) -> None:
    ax.plot(
        x,
        y,
        color=theme.lines[index % len(theme.lines)],
        linestyle=_STROKES[index // len(theme.lines) % len(_STROKES)],
        linewidth=1.0 if faint else 1.7,
        alpha=0.5 if faint else 1,
        marker=None if faint else MARKERS[index % len(MARKERS)],
        markersize=3.5,
        markevery=max(1, len(x) // 8),
        label=None if faint else plain(name),
    )
