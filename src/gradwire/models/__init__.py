"""Networks that take images in [0, 1] (N×C×H×W) and give class scores (N×classes).

>>> from gradwire import models
>>> net = models.build("lenet", shape=(3, 32, 32), classes=10, seed=0)
>>> models.parameter_count(net)
15826
"""

from gradwire.models.normalize import Normalize
from gradwire.models.registry import build, names, parameter_count

__all__ = ["Normalize", "build", "names", "parameter_count"]
