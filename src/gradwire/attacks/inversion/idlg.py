"""Improved deep leakage from gradients: first the label, from the last layer, and then the image.

B. Zhao, K. R. Mopuri, H. Bilen, "iDLG: Improved deep leakage from gradients", 2020, algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.inversion.dlg import DLG
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.problem import Problem


@dataclass(frozen=True)
class IDLG(DLG):
    """DLG with the labels of the problem: known, or inferred from the view."""

    name: ClassVar[str] = "idlg"

    def seeks_targets(self, problems: Sequence[Problem]) -> bool:
        """Never."""
        return False

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """None: only images are sought."""
        return ()
