"""Originals and reconstructions: which are shown, and one picture of them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from gradwire.metrics import ssim
from gradwire.report.audit.summary import KNOWLEDGE, Pair, labels
from gradwire.report.figures import LIGHT, plain, png
from gradwire.report.formats import part
from gradwire.report.run import Run

WIDEST = 8
"""Images that are shown of each cell."""

_TILE = 64
_GAP = 4
_TITLE = 230
"""Room for what stands above a column, which a single image would not leave."""


@dataclass(frozen=True)
class Strip:
    """The images of one cell that are shown, H×W×3 bytes each, and the SSIM of each of them with its original."""

    images: list[NDArray[np.uint8]]
    ssim: list[float]


@dataclass(frozen=True)
class Shown:
    """A scheme's strips, by knowledge. A strip is missing where the run holds no such reconstruction."""

    pair: Pair
    strips: dict[str, Strip]


def originals(run: Run) -> list[NDArray[np.uint8]]:
    """The first `WIDEST` true images, victim by victim and image by image; [] for a run without pictures."""
    return _pixels(_first(run.pictures["originals"])) if run.pictures else []


def captions(run: Run) -> list[str]:
    """What each of the shown images is: "victim 3", or "victim 1, image 2" for batches."""
    if not run.pictures:
        return []
    victims, batch = run.pictures["originals"].shape[:2]
    names = [f"victim {v}" if batch == 1 else f"victim {v}, image {b}" for v in range(victims) for b in range(batch)]
    return names[:WIDEST]


def rows(run: Run, pairs: Sequence[Pair]) -> list[Shown]:
    """The reconstructions of every scheme that has some, in the order of `pairs`.

    The SSIM beside an image is measured on that image, so that it belongs to the picture whatever rows the table has.

    Raises:
        GradwireError: images outside [0, 1].
    """
    result = []
    for pair in pairs:
        strips = {}
        for knowledge in KNOWLEDGE:
            images = run.pictures.get(f"{pair.scheme}|{pair.setting.attack}|{knowledge}")
            if images is not None:
                shown = _first(images)
                similarity = ssim(shown, _first(run.pictures["originals"])).tolist()
                strips[knowledge] = Strip(_pixels(shown), similarity)
        if strips:
            result.append(Shown(pair, strips))
    return result


def contact_sheet(images: Tensor) -> bytes:
    """The PNG file of images N×C×H×W in [0, 1], side by side."""
    return png(_montage(_pixels(images)))


def reconstructions_figure(truth: Sequence[NDArray[np.uint8]], shown: Sequence[Shown]) -> Figure:
    """Naive reconstructions on the left, adaptive ones on the right, one row a scheme, under the originals."""
    count, told = len(truth), labels(row.pair.setting for row in shown)
    lines = len(shown) + 1
    block = max(count * (_TILE + _GAP) - _GAP, _TITLE)
    margin, gutter, line, head = 215, 28, _TILE + 12, 40
    width, height = margin + 2 * block + gutter + 16, head + lines * line + 8
    figure = Figure(figsize=(width / 100, height / 100), facecolor=LIGHT.paper)

    def put(images: Sequence[NDArray[np.uint8]], left: int, top: int) -> None:
        ax = figure.add_axes((left / width, 1 - (top + _TILE) / height, block / width, _TILE / height))
        ax.imshow(_montage(images), interpolation="nearest", aspect="equal")
        ax.set_anchor("W")
        ax.axis("off")

    def write(text: str, left: float, top: float, **style: Any) -> None:
        figure.text(left / width, 1 - top / height, plain(text), color=LIGHT.ink, va="center", **style)

    for column, knowledge in enumerate(KNOWLEDGE):
        left = margin + column * (block + gutter)
        title = "naive: decode, then attack" if knowledge == "naive" else "adaptive: match what was sent"
        write(title, left, head / 2, fontsize=10, fontweight="bold")
        put(truth, left, head)
        for index, row in enumerate(shown, start=1):
            if knowledge in row.strips:
                put(row.strips[knowledge].images, left, head + index * line)
    write("original", margin - 12, head + _TILE / 2, ha="right", fontsize=9.5, fontweight="bold")
    for index, row in enumerate(shown, start=1):
        middle = head + index * line + _TILE / 2
        name = row.pair.scheme if len(row.pair.scheme) <= 22 else row.pair.scheme[:21] + "…"
        write(name, margin - 12, middle - 16, ha="right", fontsize=9.5, fontweight="bold")
        write(
            " · ".join([part(row.pair.present[-1].ratio), *told[row.pair.setting].values()]),
            margin - 12,
            middle,
            ha="right",
            fontsize=8,
        )
        means = " / ".join(f"{summary.ssim:.2f}" for summary in row.pair.present)
        write(f"mean SSIM {means}", margin - 12, middle + 15, ha="right", fontsize=8)
    return figure


def _first(images: Tensor) -> Tensor:
    return images.flatten(0, 1)[:WIDEST]


def _pixels(images: Tensor) -> list[NDArray[np.uint8]]:
    """N×C×H×W in [0, 1] as bytes; anything but three channels is shown as the grey of their mean."""
    colour = images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    pixels = (colour * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return list(pixels.contiguous().numpy())


def _montage(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Tiles side by side on white; small images are enlarged by a whole factor, so that every pixel is a square."""
    height, width = images[0].shape[:2]
    factor = max(1, _TILE // max(height, width))
    gap = np.full((height * factor, max(1, _GAP * factor * max(height, width) // _TILE), 3), 255, np.uint8)
    tiles: list[NDArray[np.uint8]] = []
    for image in images:
        tiles += [image.repeat(factor, 0).repeat(factor, 1), gap]
    return np.concatenate(tiles[:-1], axis=1)
