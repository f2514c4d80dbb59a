"""Which defence for this model, these data, this link: a screening of all schemes."""

from gradwire.studies.advise.run import advise
from gradwire.studies.advise.settings import AdviseSettings

__all__ = ["AdviseSettings", "advise"]
