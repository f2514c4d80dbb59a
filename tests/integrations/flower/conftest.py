"""Strategies sample alike. No test waits for what will not come: time stands still, a pause outlasts any patience."""

import random

import pytest


@pytest.fixture(autouse=True)
def _sampling():
    """Flower's strategies draw the order of clients from Python's own generator."""
    random.seed(0)


@pytest.fixture(autouse=True)
def _clock(monkeypatch, request):
    if request.node.get_closest_marker("deploy"):
        return
    questions = pytest.importorskip("gradwire.integrations.flower.questions")
    from gradwire.integrations.flower import grid

    now = [0.0]
    for module in (questions, grid):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(questions, "sleep", lambda seconds: now.__setitem__(0, now[0] + 2 * questions.EVER))
