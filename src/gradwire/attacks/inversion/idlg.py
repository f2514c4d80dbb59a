"""Improved deep leakage from gradients: first the label, from the last layer, and then the image.

B. Zhao, K. R. Mopuri, H. Bilen, "iDLG: Improved deep leakage from gradients", 2020, algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradwire.attacks.inversion.dlg import DLG
from gradwire.attacks.inversion.match import Match


@dataclass(frozen=True)
class IDLG(DLG):
    """DLG with the labels of the problem: known, or inferred from the view."""

    name: ClassVar[str] = "idlg"

    def extras(self, match: Match, seed: int) -> tuple[Tensor, ...]:
        """None: only images are sought."""
        return ()
