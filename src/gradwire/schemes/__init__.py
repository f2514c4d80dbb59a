"""Schemes: what is done to updates between the parties. One file a scheme, each reading like its paper's algorithm."""

from gradwire.schemes.layout import Layout, Update, parameters
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.practice import Practice, Step
from gradwire.schemes.round import Outcome, Round, Sight, State
from gradwire.schemes.scheme import Scheme, check_collective, enrol, introduce
from gradwire.schemes.sight import others, pooled, sight
from gradwire.schemes.spec import SCHEMES, parse
from gradwire.schemes.stack import Stack

__all__ = [
    "SCHEMES",
    "Layout",
    "Measurement",
    "Outcome",
    "Practice",
    "Round",
    "Scheme",
    "Sight",
    "Stack",
    "State",
    "Step",
    "Update",
    "check_collective",
    "dense",
    "enrol",
    "introduce",
    "others",
    "parameters",
    "parse",
    "pooled",
    "sight",
]
