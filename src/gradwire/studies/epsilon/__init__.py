"""ε from the wire: what canaries in every round prove, beside what a scheme claims."""

from gradwire.studies.epsilon.run import run_epsilon
from gradwire.studies.epsilon.settings import EpsilonSettings

__all__ = ["EpsilonSettings", "run_epsilon"]
