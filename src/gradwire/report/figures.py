"""What all figures share: colours for light and dark pages, axes without clutter, and bytes that do not change."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "path",
    "svg.hashsalt": "gradwire",
}


@dataclass(frozen=True)
class Theme:
    """Colours of a figure. `lines` are told apart by colour-blind readers (Okabe and Ito 2008)."""

    paper: str
    ink: str
    faint: str
    lines: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1d2330", "#d9dde5", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"))
DARK = Theme("#171b24", "#e6e9f0", "#39404f", ("#56b4e9", "#e69f00", "#2fc79a", "#e79fc7", "#f0e442", "#f2744b"))
THEMES = {"light": LIGHT, "dark": DARK}
MARKERS = ("o", "s", "^", "D", "v", "P")


def plain(text: str) -> str:
    """The text as it is: without this, matplotlib reads what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def panels(theme: Theme, rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of rows × columns panels of width × height inches each, and its axes row by row."""
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


def legend(ax: Axes, theme: Theme, **where: Any) -> None:
    """A legend of the axes' labelled lines, without a frame."""
    ax.legend(frameon=False, labelcolor=theme.ink, fontsize="small", **where)


def render(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The figure as a file. The same figure gives the same bytes: no dates and no random names in it."""
    buffer = BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(buffer, format=form, dpi=200, metadata=metadata)
    return buffer.getvalue()


def png(image: NDArray[np.uint8]) -> bytes:
    """The PNG file of an H×W×3 image, pixel for pixel."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
