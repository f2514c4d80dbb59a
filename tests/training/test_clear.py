"""What is sent in the clear beside a secure sum is said."""

from gradwire import models
from gradwire.schemes import parse
from gradwire.training import TrainSettings
from gradwire.training.loop import notes


def test_running_statistics_beside_a_sum_are_named():
    settings = TrainSettings(clients=3)
    norm, plain = (models.build(name, (3, 32, 32), 10, seed=0) for name in ("resnet20", "lenet"))
    (told,) = notes(settings, parse("sga"), norm)
    assert told == "sga: batch norm's running statistics of each client are sent beside the sum, in the clear"
    assert notes(settings, parse("sga"), plain) == ()
    assert notes(settings, parse("none"), norm) == ()
