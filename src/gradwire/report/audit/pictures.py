"""Originals and reconstructions: which are shown, and one picture of them all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gradwire.report.audit.summary import KNOWLEDGE, Pair, labels
from gradwire.report.figures import LIGHT, Figure, Picture, Theme, plain, png
from gradwire.report.formats import part
from gradwire.report.run import Run

if TYPE_CHECKING:
    from torch import Tensor

WIDEST = 8
"""Images that are shown of each cell."""
_TILE, _GAP, _TITLE = 64, 4, 230
"""Pixels of an image, of the gap between two, and of the title of a column (wider than a single image)."""


class Shown(NamedTuple):
    """A scheme's reconstructions that are shown: knowledge → images, each with its SSIM with the original."""

    pair: Pair
    strips: dict[str, list[tuple[Picture, float]]]


def originals(run: Run) -> list[Picture]:
    """The first `WIDEST` true images, victim by victim and image by image; [] for a run without pictures."""
    return _pixels(_first(run.pictures["originals"])) if run.pictures else []


def captions(run: Run) -> list[str]:
    """What each of the shown images is: "victim 3", or "victim 1, image 2" for batches."""
    victims, batch = run.pictures["originals"].shape[:2] if run.pictures else (0, 0)
    names = [f"victim {v}" if batch == 1 else f"victim {v}, image {b}" for v in range(victims) for b in range(batch)]
    return names[:WIDEST]


def rows(run: Run, pairs: Sequence[Pair]) -> list[Shown]:
    """The reconstructions of every scheme that has some, in the order of `pairs`.

    The SSIM beside an image is measured on that image, so that it belongs to the picture whatever rows the table has.

    Raises:
        GradwireError: images outside [0, 1].
    """
    from gradwire.metrics import ssim

    result = []
    for pair in pairs:
        strips = {}
        for knowledge in KNOWLEDGE:
            images = run.pictures.get(f"{pair.scheme}|{pair.setting.attack}|{knowledge}")
            if images is not None:
                shown = _first(images)
                similarity = ssim(shown, _first(run.pictures["originals"])).tolist()
                strips[knowledge] = list(zip(_pixels(shown), similarity, strict=True))
        if strips:
            result.append(Shown(pair, strips))
    return result


def contact_sheet(images: "Tensor") -> bytes:
    """The PNG file of images N×C×H×W in [0, 1], side by side."""
    return png(_montage(_pixels(images)))


def reconstructions_figure(truth: Sequence[Picture], shown: Sequence[Shown], _: Theme = LIGHT) -> Figure:
    """Naive reconstructions left, adaptive ones right, a row a scheme, under the originals; on white in any theme."""
    from matplotlib.figure import Figure

    varying = labels(row.pair.setting for row in shown)
    block = max(len(truth) * (_TILE + _GAP) - _GAP, _TITLE)
    margin, gutter, line, head = 215, 28, _TILE + 12, 40
    width, height = margin + 2 * block + gutter + 16, head + (len(shown) + 1) * line + 8
    figure = Figure(figsize=(width / 100, height / 100), facecolor=LIGHT.paper)

    def put(images: Sequence[Picture], left: int, top: int) -> None:
        ax = figure.add_axes((left / width, 1 - (top + _TILE) / height, block / width, _TILE / height))
        ax.imshow(_montage(images), interpolation="nearest", aspect="equal")
        ax.set_anchor("W")
        ax.axis("off")

    def write(text: str, left: float, top: float, **style: Any) -> None:
        figure.text(left / width, 1 - top / height, plain(text), color=LIGHT.ink, va="center", **style)

    def describe(text: str, top: float, size: float, **style: Any) -> None:
        write(text, margin - 12, top, ha="right", fontsize=size, **style)

    for column, knowledge in enumerate(KNOWLEDGE):
        left = margin + column * (block + gutter)
        title = "naive: decode, then attack" if knowledge == "naive" else "adaptive: match what was sent"
        write(title, left, head / 2, fontsize=10, fontweight="bold")
        put(truth, left, head)
        for index, row in enumerate(shown, start=1):
            if knowledge in row.strips:
                put([image for image, _ in row.strips[knowledge]], left, head + index * line)
    describe("original", head + _TILE / 2, 9.5, fontweight="bold")
    for index, row in enumerate(shown, start=1):
        middle = head + index * line + _TILE / 2
        name = row.pair.scheme if len(row.pair.scheme) <= 22 else row.pair.scheme[:21] + "…"
        describe(name, middle - 16, 9.5, fontweight="bold")
        describe(" · ".join([part(row.pair.present[-1].ratio), *varying[row.pair.setting].values()]), middle, 8)
        describe(f"mean SSIM {' / '.join(f'{summary.score:.2f}' for summary in row.pair.present)}", middle + 15, 8)
    return figure


def _first(images: "Tensor") -> "Tensor":
    return images.flatten(0, 1)[:WIDEST]


def _pixels(images: "Tensor") -> list[Picture]:
    """N×C×H×W in [0, 1] as bytes; anything but three channels is shown as the grey of their mean."""
    import torch

    colour = images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    pixels = (colour * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return list(pixels.contiguous().numpy())


def _montage(images: Sequence[Picture]) -> Picture:
    """Tiles side by side on white; small images are enlarged by a whole factor, so that every pixel is a square."""
    import numpy as np

    height, width = images[0].shape[:2]
    factor = max(1, _TILE // max(height, width))
    gap = np.full((height * factor, max(1, _GAP * factor * max(height, width) // _TILE), 3), 255, np.uint8)
    row: list[Picture] = []
    for image in images:
        row += [image.repeat(factor, 0).repeat(factor, 1), gap]
    return np.concatenate(row[:-1], axis=1)
