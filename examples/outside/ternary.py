"""A study: what ternary gradients cost in accuracy, and what they give away."""

from gradwire.studies.plan import Study

SCHEMES = ["none", "terngrad"]


def study(rounds=40, iterations=300):
    """Two trainings, and the attack TAG on the first update of each."""
    learnt = {"rounds": rounds, "eval_every": rounds}
    attack = {"samples": 2, "attack": f"tag:iterations={iterations}"}
    content = {
        "title": "Ternary gradients",
        "settings": {"model": "mlp"},
        "grid": {"scheme": SCHEMES},
        "cells": [{"command": "train", "settings": learnt}, {"command": "audit", "settings": attack}],
        "claims": [
            {
                "says": "TernGrad sends at least three times less than plain SGD",
                "source": "an int8 an entry",
                "value": "ratio",
                "where": {"command": "train", "scheme": "terngrad"},
                "is": "within",
                "between": [3, 1000],
                "test": "welch",
            }
        ],
    }
    return Study.of("ternary", content)
