"""The benchmark of shadow models runs every method beside the ordinary loop."""

import pytest

from gradwire.bench.membership import epochs, pool
from gradwire.cli import main
from gradwire.errors import GradwireError


def test_every_method_is_measured_beside_the_ordinary_loop():
    found = list(epochs("mlp", pool("digits", 64), ("none",), clients=2, batch_size=16, together=(3,), repeats=1))
    assert [each.networks for each in found] == [1, 1, 3, 1]
    assert "DataLoader" in found[0].way
    assert found[-1].way == "2 clients, none"
    for each in found:
        assert each.seconds > 0
        assert each.processor > 0
        assert each.ratio == pytest.approx(found[0].processor / each.processor)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(GradwireError, match="batch_size is 15"):
        next(epochs("mlp", pool("digits", 64), clients=2, batch_size=15))
    with pytest.raises(GradwireError, match="images is 9999"):
        pool("digits", 9999)


def test_the_command_shows_its_figures(capsys):
    common = ["bench", "membership", "--model", "mlp", "--data", "digits", "--images", "64", "--batch-size", "16"]
    main([*common, "--clients", "2", "--scheme", "none", "--together", "2", "--repeats", "1"])
    shown = capsys.readouterr().out
    assert "plain steps together" in shown
    assert "Whole epochs were run" in shown
