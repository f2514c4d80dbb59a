"""Schemes: what is done to updates between the parties. One file a scheme, each reading like its paper's algorithm."""

from gradwire.registry import SCHEMES
from gradwire.schemes.layout import Layout, Update, parameters
from gradwire.schemes.local_step import LocalStep, LocalStepHook
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.observation import observation, others, pooled
from gradwire.schemes.round import Contribution, Observation, Outcome, Round, State, Weights
from gradwire.schemes.scheme import Scheme, adapted, exchange_keys, guarantees, initial_states
from gradwire.schemes.spec import parse, spec_of
from gradwire.schemes.stacked import StackedMeasurement

__all__ = [
    "SCHEMES",
    "Contribution",
    "Layout",
    "LocalStep",
    "LocalStepHook",
    "Measurement",
    "Observation",
    "Outcome",
    "Round",
    "Scheme",
    "StackedMeasurement",
    "State",
    "Update",
    "Weights",
    "adapted",
    "dense",
    "exchange_keys",
    "guarantees",
    "initial_states",
    "observation",
    "others",
    "parameters",
    "parse",
    "pooled",
    "spec_of",
]
