"""What all figures share: colours for light and dark pages, axes without clutter, and bytes that do not change."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    """H×W×3 bytes."""
else:
    # Types alone: matplotlib and numpy are loaded when something is drawn.
    Axes = Axis = Figure = Line2D = Picture = Any

_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "path",
    "svg.hashsalt": "gradwire",
}
MARKERS = ("o", "s", "^", "D", "v", "P")
_STROKES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class Theme:
    """Colours of a figure. Colour-blind readers can tell the `lines` apart (Okabe and Ito 2008)."""

    paper: str
    ink: str
    faint: str
    lines: tuple[str, ...]

    def mark(self, index: int) -> dict[str, Any]:
        """Colour and marker of the series with this index."""
        return {"color": self.lines[index % len(self.lines)], "marker": MARKERS[index % len(MARKERS)]}

    def stroke(self, index: int) -> dict[str, Any]:
        """Colour and line style of the series with this index: the style changes when all colours are used."""
        lap, place = divmod(index, len(self.lines))
        return {"color": self.lines[place], "linestyle": _STROKES[lap % len(_STROKES)]}

    @property
    def dotted(self) -> dict[str, Any]:
        """The style of a line of reference, behind the curves: success, or guessing."""
        return {"color": self.ink, "linewidth": 0.9, "linestyle": ":", "zorder": 1.5}


LIGHT = Theme("#ffffff", "#1d2330", "#d9dde5", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"))
DARK = Theme("#171b24", "#e6e9f0", "#39404f", ("#56b4e9", "#e69f00", "#2fc79a", "#e79fc7", "#f0e442", "#f2744b"))
THEMES = {"light": LIGHT, "dark": DARK}


def plain(text: str) -> str:
    """The text as it is: without this, matplotlib reads what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def panels(theme: Theme, rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of rows × columns panels of width × height inches each, and its axes row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", facecolor=theme.paper)
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(rows * columns)]
    for ax in axes:
        ax.set_facecolor(theme.paper)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(theme.faint)
        ax.tick_params(which="both", color=theme.faint, labelcolor=theme.ink)
        ax.grid(color=theme.faint, linewidth=0.6, alpha=0.7)
        ax.set_axisbelow(True)
        for label in (ax.xaxis.label, ax.yaxis.label, ax.title):
            label.set_color(theme.ink)
    return figure, axes


def tiles(theme: Theme, count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, two a row, of width × height inches each; a single panel is 7.4 inches wide."""
    columns = min(2, count) or 1
    figure, axes = panels(theme, -(-count // columns) or 1, columns, 7.4 if columns == 1 else width, height)
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count]


def ticks(axis: Axis, text: Callable[[float], str] | None) -> None:
    """Label the major ticks of an axis with the text of their values (None: leave them), and the minor ones never."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_minor_formatter(NullFormatter())
    if text is not None:
        axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def handle(label: str, **style: Any) -> Line2D:
    """A line of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=plain(label), **style)


def legend(where: Axes | Figure, theme: Theme, **options: Any) -> None:
    """A legend without a frame, by default of the axes' labelled lines."""
    where.legend(frameon=False, labelcolor=theme.ink, fontsize="small", **options)


def render(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The figure as a file. The same figure gives the same bytes: no dates and no random names in it."""
    import matplotlib

    buffer = BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(buffer, format=form, dpi=200, metadata=metadata)
    return buffer.getvalue()


def png(image: Picture) -> bytes:
    """The PNG file of an H×W×3 image, pixel for pixel."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
